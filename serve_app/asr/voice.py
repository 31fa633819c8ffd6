"""How much of a voice is in some audio, asked of the voice detector: what the guards go by."""

from __future__ import annotations

import numpy as np

from serve_app.asr.guards import Voice, heard_voice
from serve_app.asr.jobs import Pcm16
from serve_app.vad.detector import WINDOW_SAMPLES, VadRequest, VoiceDetector


def voice_of(audio: Pcm16, detector: VoiceDetector) -> Voice:
    """The voice in int16 audio `(num_samples,)`, 16 kHz; the last window is filled up with zeros."""
    whole = np.concatenate([audio, np.zeros(-len(audio) % WINDOW_SAMPLES, np.int16)])
    return heard_voice(detector.detect([VadRequest(whole)])[0].probs)
