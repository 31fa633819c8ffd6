"""`from clients.livekit_plugin import WhisperSTT`: the LiveKit plugin under its short name."""

from serve_app.clients.livekit_plugin import WhisperSTT

__all__ = ["WhisperSTT"]
