"""Synthetic speech with a known text, and a detector and recogniser that hear it exactly.

A word is a stretch of constant amplitude `WORD_BASE + 10 * number`, pauses are zeros. `decode` reads the
words back with their times, so a test can say which words were lost, doubled or cut, without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve_app.asr.jobs import SAMPLE_RATE_HZ, DecodeTiming, Pcm16, Transcript, Word
from serve_app.session.effects import DecodeRequest
from serve_app.vad.detector import SILERO_STATE, VadRequest, VadResult, VadState

WORD_BASE = 2_000
LOUD = 1_000


@dataclass(frozen=True)
class Say:
    """One word of `ms`, followed by `pause_ms` of silence."""

    number: int
    ms: int = 300
    pause_ms: int = 60


def speak(words: Sequence[Say], lead_ms: int = 500) -> Pcm16:
    parts = [np.zeros(lead_ms * 16, np.int16)]
    for word in words:
        parts.append(np.full(word.ms * 16, WORD_BASE + 10 * word.number, np.int16))
        parts.append(np.zeros(word.pause_ms * 16, np.int16))
    return np.concatenate(parts)


def hear(audio: Pcm16, min_ms: int = 40) -> list[Word]:
    """The words in `audio`, fragments of at least `min_ms` included."""
    edges = np.flatnonzero(np.diff(audio)) + 1
    words = []
    for start, end in zip([0, *edges], [*edges, len(audio)], strict=True):
        level = int(audio[start]) if len(audio) else 0
        if level >= WORD_BASE and end - start >= min_ms * 16:
            name = f" w{(level - WORD_BASE) // 10}"
            words.append(Word(name, start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, 0.9))
    return words


def decode(request: DecodeRequest, language: str = "en") -> Transcript:
    words = hear(request.audio)
    return Transcript(
        job_id=request.key,
        text="".join(word.word for word in words).strip(),
        language=request.language or language,
        language_probability=0.9,
        avg_logprob=-0.1,
        no_speech_prob=0.01,
        model="fake",
        words=tuple(words) if request.word_timestamps else (),
        timing=DecodeTiming(inference_ms=1.0),
    )


class FakeDetector:
    """Loud windows are speech; smoothed over time, so that its state matters."""

    window_samples = 512
    state_shape = SILERO_STATE

    def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        return [self._one(request) for request in requests]

    def _one(self, request: VadRequest) -> VadResult:
        recurrent = np.zeros((2, 128), np.float32)
        level = float(request.state.recurrent[0, 0]) if request.state else 0.0
        probs = []
        for window in request.samples.reshape(-1, 512):
            level = 0.3 * level + 0.7 * float(np.mean(np.abs(window) > LOUD))
            probs.append(level)
        recurrent[0, 0] = level
        return VadResult(np.array(probs, np.float32), VadState(recurrent, request.samples[-64:].copy()))
