"""Synthetic speech with a known text, and a detector and recogniser that hear it exactly.

A word is a stretch of constant amplitude `WORD_BASE + 10 * number`, pauses are zeros. `decode` reads the
words back with their times, so a test can say which words were lost, doubled or cut, without a model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serve_app.core.jobs import DecodeTiming, Transcript, Word
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.session.effects import DecodeRequest, Purpose
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
    edges = [int(edge) for edge in np.flatnonzero(np.diff(audio)) + 1]
    words = []
    for start, end in zip([0, *edges], [*edges, len(audio)], strict=True):
        level = int(audio[start]) if len(audio) else 0
        if level >= WORD_BASE and end - start >= min_ms * 16:
            name = f" w{(level - WORD_BASE) // 10}"
            words.append(Word(name, start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, 0.9))
    return words


def decode(request: DecodeRequest, language: str = "en") -> Transcript:
    words = hear(request.job.audio)
    return Transcript(
        job_id=request.key,
        text="".join(word.word for word in words).strip(),
        language=request.job.language or language,
        language_probability=0.9,
        avg_logprob=-0.1,
        no_speech_prob=0.01,
        confidence=0.9,
        model="fake",
        words=tuple(words) if request.job.word_timestamps else (),
        timing=DecodeTiming(inference_ms=1.0),
    )


def decode_like_a_model(request: DecodeRequest, rng: random.Random, unsure_ms: int = 600) -> Transcript:
    """The same with a model's weaknesses: text goes on behind the forced prefix whatever the audio says, and
    words near the end of an interim's audio are misheard, or not heard at all. Attention is exact."""
    heard = hear(request.job.audio)
    first = len(request.job.prefix.split())
    if request.job.prefix:
        heard = [
            replace(w, word=f" {p}") for w, p in zip(heard, request.job.prefix.split(), strict=False)
        ] + heard[first:]
    sure_s = len(request.job.audio) / SAMPLE_RATE_HZ
    if request.purpose is Purpose.INTERIM:
        unsure_s = sure_s - unsure_ms / 1000
        heard = [
            replace(word, word=f" x{rng.randrange(10**9)}") if n >= first and word.end_s > unsure_s else word
            for n, word in enumerate(heard)
            if n < first or word.end_s <= unsure_s or rng.random() < 0.7
        ]
    if request.job.attention is not None:
        sure_s -= request.job.attention.frame_threshold * 0.02
    num_safe = max(first, sum(word.end_s <= sure_s for word in heard))
    transcript = decode(request)
    return replace(
        transcript,
        text="".join(word.word for word in heard).strip(),
        words=tuple(heard) if request.job.word_timestamps else (),
        committed_chars=len("".join(word.word for word in heard[:num_safe]).strip()),
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
