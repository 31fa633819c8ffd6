"""A few seconds of known speech, with which replicas try whether their models still hear and write."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from serve_app.audio.recordings import decode_recording
from serve_app.core.samples import Pcm16

CANARY_TEXT = "The quick brown fox jumps over the lazy dog."
CANARY_LANGUAGE = "en"
_FILE = Path(__file__).with_name("canary.flac")
_MAX_SAMPLES = 10 * 16_000


@cache
def canary_audio() -> Pcm16:
    """Int16 `(num_samples,)` at 16 kHz: `CANARY_TEXT` by a synthetic voice, some 4 s with short silences."""
    return decode_recording(_FILE.read_bytes(), max_samples=_MAX_SAMPLES).samples
