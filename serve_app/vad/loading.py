"""The detector that the settings ask for."""

from __future__ import annotations

from serve_app.models import silero_vad_path, silero_vad_sequence_path
from serve_app.vad.detector import SILERO_STATE, WEBRTC_STATE, StateShape, VoiceDetector
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
