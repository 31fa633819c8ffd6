"""The voice detector that the settings ask for, and what the recogniser's guards ask it."""

from __future__ import annotations

import numpy as np

from serve_app.asr.guards import Voice, heard_voice
from serve_app.assembly.load_time import load_within
from serve_app.audio.sample import speech_sample
from serve_app.core.samples import Pcm16
from serve_app.models import silero_vad_path, silero_vad_sequence_path
from serve_app.service.local_voice import LocalVoice
from serve_app.settings import Settings
from serve_app.vad.detector import (
    SILERO_STATE,
    WEBRTC_STATE,
    WINDOW_SAMPLES,
    StateShape,
    VadRequest,
    VoiceDetector,
)
from serve_app.vad.host import VoiceHost
from serve_app.vad.silero import SileroDetector
from serve_app.vad.webrtc import WebRtcDetector


def state_shape(backend: str) -> StateShape:
    """The state that travels with requests to this backend; needs no model."""
    return WEBRTC_STATE if backend == "webrtc" else SILERO_STATE


def load_detector(backend: str) -> VoiceDetector:
    """`silero` or `webrtc`, loaded. Raises `ModelUnavailable` where Silero's file is missing."""
    if backend == "webrtc":
        return WebRtcDetector()
    return SileroDetector(silero_vad_path(), silero_vad_sequence_path())


def voice_host(settings: Settings) -> VoiceHost:
    """What a voice-activity replica runs. Raises `ModelUnavailable`."""
    return VoiceHost(load_detector(settings.vad_backend), speech_sample())


def local_voice(settings: Settings) -> LocalVoice:
    """The same within the ingress. Raises `ModelUnavailable`."""
    return LocalVoice(
        lambda: load_within(settings.model_load_timeout_s, "the voice detector", lambda: voice_host(settings))
    )


def voice_of(audio: Pcm16, detector: VoiceDetector) -> Voice:
    """The voice in int16 audio `(num_samples,)`, 16 kHz; the last window is filled up with zeros."""
    whole = np.concatenate([audio, np.zeros(-len(audio) % WINDOW_SAMPLES, np.int16)])
    return heard_voice(detector.detect([VadRequest(whole)])[0].probs)
