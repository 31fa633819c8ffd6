"""pyannote's diarization pipeline with segmentation-3.0 and CAM++, for recordings of any length.

Two passes. The first is pyannote's `SpeakerDiarization`: ten-second windows a second apart, an embedding per
voice of each window, agglomerative clustering, and what the windows say added up per frame; here window by
window out of int16 audio, so that memory grows by little more than the audio itself. The second embeds each
turn that the first one found, once and whole, and groups the turns into speakers: a turn holds one voice
where a window's voice may be two.
"""

# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.core.samples import FULL_SCALE, SAMPLE_RATE_HZ, Pcm16
from serve_app.speakers.models.encoder import Embeddings, SpeakerEncoder
from serve_app.speakers.models.segmentation import FRAME_S, FRAME_STEP_S, NUM_FRAMES, SpeakerSegmenter
from serve_app.speakers.models.weights import quiet_pyannote
from serve_app.speakers.ports import WINDOW_S, WINDOW_SAMPLES, runs_of
from serve_app.speakers.recordings.voices import MAX_VOICES, alone_frames, tell_apart

quiet_pyannote()

from pyannote.audio.core.model import Model  # noqa: E402
from pyannote.audio.core.plda import PLDA  # noqa: E402
from pyannote.audio.pipelines import SpeakerDiarization  # noqa: E402
from pyannote.audio.pipelines.clustering import AgglomerativeClustering  # noqa: E402
from pyannote.core import Annotation, Segment, SlidingWindow, SlidingWindowFeature  # noqa: E402

STEP_S = 1.0
CLUSTERING = {"method": "average", "threshold": 0.5, "min_cluster_size": 2}
"""Cosine distance between voices of windows; the same from 0.40 to 0.60 (docs/speakers.md)."""
LEAST_ALONE_S = 1.0
"""A window's voice that speaks less alone is no evidence of a speaker; it goes to the nearest."""
MAX_CLUSTERED = 3000
"""Embeddings in the first pass, spread over the recording: time and memory grow with the square."""
_STEP_SAMPLES = round(STEP_S * SAMPLE_RATE_HZ)


class BlockwiseDiarization(SpeakerDiarization):
    """The first pass. `apply` takes `{"uri": str, "samples": int16 (num_samples,), "pause": callable}`, at
    least one sample, and a hook as pyannote's."""

    def __init__(self, segmenter: SpeakerSegmenter, encoder: SpeakerEncoder, batch_size: int) -> None:
        super().__init__(
            segmentation=segmenter.model,
            embedding=EncoderModel(encoder),
            plda=NoPLDA(),
            clustering="AgglomerativeClustering",
            embedding_exclude_overlap=True,
        )
        self.clustering = VoiceClustering(metric="cosine")
        self.instantiate({"segmentation": {"min_duration_off": 0.0}, "clustering": CLUSTERING})
        self._segmenter = segmenter
        self._encoder = encoder
        self._batch_size = batch_size

    def get_segmentations(self, file: Any, hook: Any = None) -> Any:
        """uint8 `(num_windows, NUM_FRAMES, MAX_VOICES)`; the embeddings are made on the way and kept in
        `file`."""
        samples: Pcm16 = file["samples"]
        pause: Callable[[], None] = file["pause"]
        num_windows = 1 + max(0, -(-(len(samples) - WINDOW_SAMPLES) // _STEP_SAMPLES))
        activity = np.zeros((num_windows, NUM_FRAMES, MAX_VOICES), np.uint8)
        embeddings = np.zeros((num_windows, MAX_VOICES, self._encoder.num_dimensions), np.float32)
        for first in range(0, num_windows, self._batch_size):
            pause()
            windows = np.stack(
                [
                    _window(samples, index)
                    for index in range(first, min(num_windows, first + self._batch_size))
                ]
            )
            for index, voices in enumerate(self._segmenter.activities(windows), first):
                pause()
                apart = tell_apart(self._encoder, windows[index - first], voices)
                activity[index], embeddings[index] = apart.activity, apart.embeddings
            if hook is not None:
                hook(
                    "segmentation",
                    None,
                    total=num_windows,
                    completed=min(num_windows, first + self._batch_size),
                )
        embeddings[np.linalg.norm(embeddings, axis=2) == 0] = np.nan
        file["embeddings"] = embeddings
        return SlidingWindowFeature(activity, SlidingWindow(start=0.0, duration=WINDOW_S, step=STEP_S))

    def get_embeddings(self, file: Any, *_: Any, **__: Any) -> Embeddings:
        embeddings: Embeddings = file["embeddings"]
        return embeddings

    def reconstruct(self, segmentations: Any, hard_clusters: Any, count: Any) -> Any:
        """As pyannote's, without an array of all windows by all speakers."""
        windows = segmentations.data
        num_speakers = int(hard_clusters.max()) + 1
        heard = np.zeros((len(count), max(num_speakers, 1)), np.float32)
        for index, (window, speakers) in enumerate(zip(windows, hard_clusters, strict=True)):
            first = _first_frame(index)
            part = heard[first : first + len(window)]
            for speaker in set(speakers.tolist()) - {-2}:
                part[:, speaker] += window[: len(part), speakers == speaker].max(axis=1)
        at_once = np.minimum(count.data[:, 0], heard.shape[1]).astype(np.int64)
        active = np.zeros(heard.shape, np.uint8)
        order = np.argsort(-heard, axis=1, kind="stable")[:, : max(1, int(at_once.max(initial=0)))]
        for rank in range(order.shape[1]):
            frames = np.flatnonzero(at_once > rank)
            active[frames, order[frames, rank]] = 1
        return SlidingWindowFeature(active, count.sliding_window)

    @staticmethod
    def to_annotation(
        discrete_diarization: Any, min_duration_on: float = 0.0, min_duration_off: float = 0.0
    ) -> Any:
        """As pyannote's for durations of 0: a turn lasts from the middle of its first frame to the middle
        of the one after its last."""
        annotation = Annotation()
        for speaker, active in enumerate(discrete_diarization.data.T):
            for number, run in enumerate(runs_of(active > 0)):
                start_s, end_s = (edge * FRAME_STEP_S + FRAME_S / 2 for edge in run)
                annotation[Segment(start_s, end_s), f"{speaker}-{number}"] = speaker
        return annotation


class VoiceClustering(AgglomerativeClustering):
    """pyannote's, over a bounded number of embeddings, which never come back empty."""

    def filter_embeddings(self, embeddings: Embeddings, segmentations: Any = None, **_: Any) -> Any:
        valid = ~np.isnan(embeddings[:, :, 0])
        alone_s = alone_frames(segmentations.data).sum(1) * FRAME_STEP_S
        chosen = valid & (alone_s >= LEAST_ALONE_S)
        if not chosen.any():
            chosen = valid & (alone_s == np.max(alone_s, where=valid, initial=0.0))
        windows, voices = np.nonzero(chosen)
        every = -(-len(windows) // MAX_CLUSTERED)
        windows, voices = windows[:: max(1, every)], voices[:: max(1, every)]
        return embeddings[windows, voices], windows, voices


class EncoderModel(Model):
    """CAM++ as far as pyannote asks for it: `get_embeddings` has made the embeddings by other means."""

    def __init__(self, encoder: SpeakerEncoder) -> None:
        super().__init__(sample_rate=SAMPLE_RATE_HZ, num_channels=1)
        self._num_dimensions = encoder.num_dimensions

    @property
    def dimension(self) -> int:
        return self._num_dimensions


class NoPLDA(PLDA):
    """pyannote asks for one with every clustering; this one uses none."""

    def __init__(self) -> None:
        pass


def _window(samples: Pcm16, index: int) -> npt.NDArray[np.float32]:
    window = np.zeros(WINDOW_SAMPLES, np.float32)
    cut = samples[index * _STEP_SAMPLES : index * _STEP_SAMPLES + WINDOW_SAMPLES]
    window[: len(cut)] = cut
    return window / np.float32(FULL_SCALE)


def _first_frame(window: int) -> int:
    """As pyannote adds windows up: the frame whose start is nearest."""
    return round(window * STEP_S / FRAME_STEP_S)
