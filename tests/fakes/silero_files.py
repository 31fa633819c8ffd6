"""Where the installed wheel keeps Silero's networks, without importing it, and speech to try them on."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path

import numpy as np

from serve_app.audio.recordings import decode_recording
from serve_app.vad.detector import WINDOW_SAMPLES

SPOKEN = Path(__file__).resolve().parents[2] / "audio" / "spoken"


@cache
def silero_file(name: str) -> Path | None:
    """Path of `silero_vad.onnx` or another file of the wheel; None where it is not installed."""
    try:
        files = importlib.metadata.files("silero-vad") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == name), None)


@cache
def speech(name: str = "short_0") -> np.ndarray:
    """Whole windows of a recording in `audio/spoken`, int16."""
    samples = decode_recording(SPOKEN / f"{name}.flac").samples
    return samples[: len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES]
