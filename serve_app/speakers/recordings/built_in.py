"""Who spoke when in a recording, by the two models that need no account."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16, as_float
from serve_app.speakers.models.weights import encoder_path, segmentation_path
from serve_app.speakers.recordings.diarizer import RecordingDiarizer, join_turns, relabelled, turns_of
from serve_app.speakers.recordings.turn_grouping import group_turns
from serve_app.speakers.turns import SpeakerCounts, Turn

_FIRST_PASS = 0.9
"""Of all the work."""
_LEAST_EMBEDDED_S = 0.2
_JOIN_S = 0.2
"""A shorter pause does not end a turn."""
_MAX_EMBEDDED_S = 30.0
"""Of one turn: more tells nothing new of its voice."""
_CPU_BATCH, _GPU_BATCH = 4, 32


class BuiltInDiarizer(RecordingDiarizer):
    """segmentation-3.0 and CAM++ in pyannote's pipeline, then each turn heard once more."""

    def __init__(self, device: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from serve_app.speakers.models.encoder import SpeakerEncoder
            from serve_app.speakers.models.segmentation import SpeakerSegmenter
            from serve_app.speakers.recordings.pipeline import BlockwiseDiarization

            self._encoder = SpeakerEncoder(encoder_path(), device)
            segmenter = SpeakerSegmenter(segmentation_path(), device)
            batch_size = _CPU_BATCH if device == "cpu" else _GPU_BATCH
            self._pipeline = BlockwiseDiarization(segmenter, self._encoder, batch_size)

    def _turns(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> tuple[list[Turn], list[Turn]]:
        spans, alone = self._first_pass(audio, progress, pause)
        turns = join_turns(alone, _JOIN_S)
        speakers = self._group(audio, turns, counts, progress, pause)
        return relabelled(spans, turns, speakers), relabelled(alone, turns, speakers)

    def _first_pass(
        self, audio: Pcm16, progress: Callable[[float], None], pause: Callable[[], None]
    ) -> tuple[list[Turn], list[Turn]]:
        def hook(step: str, _: object, *, file: object = None, total: int = 0, completed: int = 0) -> None:
            if step == "segmentation" and total:
                progress(_FIRST_PASS * completed / total)

        found = self._pipeline.apply({"uri": "recording", "samples": audio, "pause": pause}, hook=hook)
        numbers: dict[str, int] = {}
        spans = turns_of(found.speaker_diarization, numbers)
        return spans, turns_of(found.exclusive_speaker_diarization, numbers)

    def _group(
        self,
        audio: Pcm16,
        turns: list[Turn],
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> list[int]:
        """Each turn's speaker; a turn too short to be heard is its neighbour's."""
        embeddings = np.zeros((len(turns), self._encoder.num_dimensions), np.float32)
        for number, turn in enumerate(turns):
            pause()
            if turn.end_s - turn.start_s >= _LEAST_EMBEDDED_S:
                end_s = min(turn.end_s, turn.start_s + _MAX_EMBEDDED_S)
                cut = audio[round(turn.start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
                embeddings[number] = self._encoder.embed(as_float(cut))
            progress(_FIRST_PASS + (1 - _FIRST_PASS) * (number + 1) / len(turns))
        seconds = np.array([turn.end_s - turn.start_s for turn in turns], np.float32)
        speakers = group_turns(embeddings, seconds, counts)
        heard = np.flatnonzero(embeddings.any(1))
        if len(heard):
            middles = np.array([turn.start_s + turn.end_s for turn in turns])
            for number in np.flatnonzero(~embeddings.any(1)).tolist():
                speakers[number] = speakers[heard[np.argmin(np.abs(middles[heard] - middles[number]))]]
        found: list[int] = speakers.tolist()
        return found
