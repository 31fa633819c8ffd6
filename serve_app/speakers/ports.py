"""What a backend that tells speakers apart can do, and the records that go to it and come back.

The diarization deployment keeps nothing between calls: any replica answers, and a call that was lost with a
replica is sent again. Which voice of a window is which speaker of the session is decided by the session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serve_app.core.errors import ModelUnavailable
from serve_app.core.installed import find_installed, installed_names
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.speakers.turns import Diarization, SpeakerCounts

WINDOW_S = 10.0
"""What the segmentation model was trained on; shorter windows are filled up with silence."""
WINDOW_SAMPLES = round(WINDOW_S * SAMPLE_RATE_HZ)


@dataclass(frozen=True, slots=True)
class SpeakerWindow:
    """Int16 `(num_samples,)` audio at 16 kHz, at most `WINDOW_SAMPLES` of it."""

    audio: Pcm16


@dataclass(frozen=True, slots=True)
class WindowVoices:
    """The voices heard in one window, numbered within it.

    `activity` uint8 `(num_frames, num_voices)`: 1 where a voice speaks, frames of `frame_s` seconds from the
    window's first sample. `embeddings` float32 `(num_voices, num_dimensions)`: means of unit vectors, so at
    most of length 1; `clean_s` float32 `(num_voices,)`: how many seconds, spoken alone, are behind each of
    them (0: too few, and it is zeros).
    """

    activity: npt.NDArray[np.uint8]
    frame_s: float
    embeddings: npt.NDArray[np.float32]
    clean_s: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpeakerStatus:
    """What tells speakers apart here; `missing` says what to install or to set where nothing does; `warm`:
    the models of live sessions are loaded."""

    backend: str = ""
    models: tuple[str, ...] = ()
    device: str = ""
    missing: str = ""
    warm: bool = False

    @property
    def available(self) -> bool:
        return not self.missing


DIARIZERS = "sotto.diarizers"
"""The group of entry points in which other packages name factories of theirs: a `DiarizerToLoad` in, a
`Diarizer` out."""
BUILT_IN_BACKENDS = ("channel", "pyannote", "sortformer")


def find_diarizer(name: str) -> EntryPoint | None:
    """Where another package's factory is; None for a name of ours, which no package replaces."""
    return None if name in BUILT_IN_BACKENDS else find_installed(name, DIARIZERS)


def require_backend(name: str) -> None:
    """Raises `ModelUnavailable`, naming those that are here, for one that is neither ours nor installed."""
    if name not in BUILT_IN_BACKENDS and find_diarizer(name) is None:
        here = ", ".join(sorted({*BUILT_IN_BACKENDS, *installed_names(DIARIZERS)}))
        raise ModelUnavailable(f"no diarizer of this name is installed, expected one of: {here}")


@dataclass(frozen=True, slots=True)
class DiarizerToLoad:
    """What the factory of a diarizer is told. `device`: cpu or cuda; `threads` of a CPU; `offline`: the
    network must not be asked for weights."""

    device: str
    threads: int
    offline: bool


class Analyser(Protocol):
    """Listens to windows of live sessions."""

    def analyse(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        """The voices of each window, in order."""


class Diarizer(Protocol):
    """Listens to recordings."""

    def diarize(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> Diarization:
        """Who spoke in int16 `(n,)` audio. `progress` hears the share done; `pause` is called between
        batches: it may wait, and raise to end the work."""


Run = tuple[int, int]
"""First frame, and the one behind the last."""


def runs_of(active: npt.NDArray[np.bool_]) -> list[Run]:
    """The runs of True in bool `(num_frames,)`, in order."""
    edges = np.flatnonzero(np.diff(np.r_[False, active, False].astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def frames_away(frames: npt.NDArray[np.int64], runs: Sequence[Run]) -> npt.NDArray[np.int64]:
    """How far each of `frames` is from each run, `(num_frames, num_runs)`; 0 within it."""
    starts, ends = np.array(runs).T
    away: npt.NDArray[np.int64] = np.maximum(
        np.maximum(starts - frames[:, None], frames[:, None] - ends + 1), 0
    )
    return away
