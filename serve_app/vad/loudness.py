"""How loud each window is: what stands in for speech probabilities where the detector is off."""

from __future__ import annotations

import numpy as np

from serve_app.asr.jobs import Pcm16
from serve_app.vad.detector import WINDOW_SAMPLES


def loudness(samples: Pcm16) -> list[float]:
    """Root mean square in [0, 1] of each window of int16 `(n * 512,)` samples."""
    windows = samples.astype(np.float32).reshape(-1, WINDOW_SAMPLES) / 32768.0
    return [float(value) for value in np.sqrt(np.mean(windows * windows, axis=1))]
