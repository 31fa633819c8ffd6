"""What the diarization deployment is asked about live sessions, and its answer: plain records and arrays.

The deployment keeps nothing between calls: any replica answers, and a call that a dead one took with it is
sent again. Which voice of a window is which speaker of the session is decided by the session.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16

WINDOW_S = 10.0
"""What the segmentation model was trained on; shorter windows are filled up with silence."""
WINDOW_SAMPLES = round(WINDOW_S * SAMPLE_RATE_HZ)


@dataclass(frozen=True, slots=True)
class SpeakerWindow:
    """Int16 `(num_samples,)` audio at 16 kHz, at most `WINDOW_SAMPLES` of it."""

    audio: Pcm16


@dataclass(frozen=True, slots=True)
class WindowVoices:
    """The voices heard in one window, numbered within it.

    `activity` uint8 `(num_frames, num_voices)`: 1 where a voice speaks, frames of `frame_s` seconds from the
    window's first sample. `embeddings` float32 `(num_voices, num_dimensions)`: means of unit vectors, so at
    most of length 1; `clean_s` float32 `(num_voices,)`: how many seconds, spoken alone, are behind each of
    them (0: too few, and it is zeros).
    """

    activity: npt.NDArray[np.uint8]
    frame_s: float
    embeddings: npt.NDArray[np.float32]
    clean_s: npt.NDArray[np.float32]
