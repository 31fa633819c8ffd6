"""`from clients.livekit_plugin import WhisperSTT`: the LiveKit plugin under its short name."""

from sotto_client.livekit_plugin import WhisperSTT

__all__ = ["WhisperSTT"]
