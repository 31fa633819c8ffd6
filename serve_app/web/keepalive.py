"""Keeping a WebSocket that audio arrives on, whatever becomes of its pongs.

uvicorn closes a connection whose pong does not come within 20 s. A client that reads nothing until it has
sent everything may not answer pings (a library that stops reading while 16 messages are unread cannot), and
while we hold a fast sender back, its pong waits behind its audio. What has come since the ping is as good as
a pong; a connection on which nothing comes is left to the idle limit of the door.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets import auto
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class PatientWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol; bytes from the peer, or our own refusal to read any, stand in for a pong."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)

    def keepalive_timeout(self) -> None:
        if not self.read_paused and self._heard_at < self.ping_sent_at:
            super().keepalive_timeout()
            return
        self.pong_timer = None
        self.pending_ping_payload = None
        self.schedule_ping()


def let_audio_be_a_sign_of_life() -> None:
    """Use `PatientWebSocket` in every server of this process that has not been configured yet."""
    auto.AutoWebSocketsProtocol = PatientWebSocket
