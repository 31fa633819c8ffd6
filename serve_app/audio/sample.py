"""A sentence of our own, for what has to decode some speech to know itself: measuring, and canaries."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from serve_app.audio.recordings import decode_recording
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

SAMPLE_TEXT = "It was raining when we left the station, so we took a taxi to the old hotel by the river."
_SPEECH_S = (0.4, 6.2)


@cache
def speech_sample() -> Pcm16:
    """Int16 `(n,)` at 16 kHz: 5.8 s of English, `SAMPLE_TEXT`, with a tenth of a second around it. Made with
    a synthetic voice for this project. Read-only: every caller gets the same array."""
    audio = decode_recording(Path(__file__).with_name("sample.flac")).samples
    start, end = (round(edge_s * SAMPLE_RATE_HZ) for edge_s in _SPEECH_S)
    sample = audio[start:end].copy()
    sample.flags.writeable = False
    return sample
