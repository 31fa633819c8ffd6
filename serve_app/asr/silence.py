"""Silence: which audio is some, and what the silence behind the speech sounds like."""

from __future__ import annotations

import numpy as np

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16

MAX_SILENT_RMS = 10.0
"""Loudest 20 ms of what counts as silence, in int16 steps: -70 dBFS, below any microphone's own noise."""

ROOM_TONE_LEVEL = 0.005
"""Standard deviation (-46 dBFS) of the white noise whose states stand behind the speech. Digital silence
there costs words: `benchmarks/short_context.py` has the comparison."""

_FRAME_SAMPLES = SAMPLE_RATE_HZ // 50


def is_silent(audio: Pcm16) -> bool:
    """Whether no 20 ms of the audio are louder than `MAX_SILENT_RMS`; true of no audio at all."""
    whole = len(audio) // _FRAME_SAMPLES * _FRAME_SAMPLES
    for part in (audio[:whole].reshape(-1, _FRAME_SAMPLES), audio[whole:].reshape(1, -1)):
        if part.size:
            power = np.square(part, dtype=np.float32).mean(axis=1)
            if power.max() > MAX_SILENT_RMS**2:
                return False
    return True


def room_tone(seconds: float, level: float = ROOM_TONE_LEVEL) -> Pcm16:
    """An empty room, int16 at 16 kHz: white noise, always the same."""
    noise = np.random.default_rng(0).normal(0.0, level * 32_768, round(seconds * SAMPLE_RATE_HZ))
    return np.round(noise).astype(np.int16)
