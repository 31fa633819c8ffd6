"""NVIDIA's streaming Sortformer for recordings: one network that says who speaks, for up to four speakers.

Park et al. 2024, "Sortformer: Seamless Integration of Speaker Diarization and ASR by Bridging Timestamps
and Tokens" (arXiv 2409.06656), and Medennikov et al. 2025, "Streaming Sortformer: Speaker Cache-Based
Online Speaker Diarization with Arrival-Time Ordering" (arXiv 2507.18446). It hears a recording in chunks
with a cache of what the speakers sounded like, so that memory does not grow. Live sessions do not use it:
its state is too large to travel with a session.
"""

from __future__ import annotations

import tempfile
import warnings
import wave
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.speakers.recordings.diarizer import RecordingDiarizer, exclusive_turns
from serve_app.speakers.turns import SpeakerCounts, Turn

HUB_ID = "nvidia/diar_streaming_sortformer_4spk-v2"
_CHUNKS = {"chunk_len": 340, "chunk_right_context": 40, "fifo_len": 40, "spkcache_update_period": 300}
"""In frames of 80 ms: the model card's settings for accuracy, 30 s at a time."""


class SortformerDiarizer(RecordingDiarizer):
    """`model` is a hub id or the path of a `.nemo` file. Speaker counts are taken as a bound only.

    Raises `ModelUnavailable` where NeMo or the model is missing.
    """

    def __init__(self, model: str = HUB_ID, *, device: str = "cpu", offline: bool = False) -> None:
        require_nemo()
        self._model = _load(model, device, offline)

    def _turns(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> tuple[list[Turn], list[Turn]]:
        """NeMo works through the recording in one call, without a pause."""
        pause()
        with tempfile.TemporaryDirectory(prefix="sortformer-") as folder:
            path = Path(folder) / "recording.wav"
            _write_wav(path, audio)
            segments = self._model.diarize(audio=[str(path)], batch_size=1)[0]
        turns = parse_segments(segments)
        if counts.at_most is not None:
            turns = _most_heard(turns, counts.at_most)
        return turns, exclusive_turns(turns)


def require_nemo() -> None:
    """Raises `ModelUnavailable`, with what installs it, where NeMo is not there."""
    if find_spec("nemo") is None:
        raise ModelUnavailable(
            "NVIDIA NeMo is not installed: `pip install 'nemo_toolkit[asr]'` in the server's environment "
            "installs it (several GB, best with a GPU), or set STT_DIARIZATION_BACKEND=pyannote"
        )


def parse_segments(segments: Iterable[str]) -> list[Turn]:
    """NeMo's lines "begin end speaker_n", in seconds. Raises `ModelUnavailable` for any other."""
    turns = []
    for segment in segments:
        try:
            start_s, end_s, speaker = segment.split()
            turns.append(Turn(float(start_s), float(end_s), int(speaker.removeprefix("speaker_"))))
        except (ValueError, AttributeError) as error:
            raise ModelUnavailable(
                f"this version of NeMo answers in another form: {str(segment)[:80]!r}"
            ) from error
    return sorted(turns, key=lambda turn: (turn.start_s, turn.end_s))


def _load(model: str, device: str, offline: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from nemo.collections.asr.models import SortformerEncLabelModel

            if Path(model).expanduser().is_file():
                path = str(Path(model).expanduser())
                loaded = SortformerEncLabelModel.restore_from(restore_path=path, map_location=device)
            elif offline:
                raise ModelUnavailable(
                    f"{model} is on the hub and this server is offline: download its .nemo file and name that"
                )
            else:
                loaded = SortformerEncLabelModel.from_pretrained(model, map_location=device)
        except ModelUnavailable:
            raise
        except Exception as error:
            raise ModelUnavailable(
                f"{model} cannot be loaded: {type(error).__name__}: {str(error)[:300]}"
            ) from error
    loaded.eval()
    for name, value in _CHUNKS.items():
        setattr(loaded.sortformer_modules, name, value)
    return loaded


def _most_heard(turns: list[Turn], most: int) -> list[Turn]:
    """The turns of those who speak longest, at most `most` of them."""
    seconds: dict[int, float] = {}
    for turn in turns:
        seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + turn.end_s - turn.start_s
    kept = sorted(seconds, key=lambda speaker: -seconds[speaker])[:most]
    return [turn for turn in turns if turn.speaker in kept]


def _write_wav(path: Path, audio: Pcm16) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(audio.astype("<i2", copy=False).data)
