"""From what waits on a connection to its socket: one message after the other, in one task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from serve_app.protocols.dialect import Dialect, Frame
from serve_app.web.live.outbox import ChannelEvent, Outbox
from serve_app.web.live.restraint import Restraint

log = structlog.get_logger(__name__)

MAX_READING = 10
"""A client that reads slowly has so many times the wait for one frame for all of them, at the end."""


class Sender:
    """`said_s`: when a frame went out last; `sending_since_s`: since when one could not, if one cannot."""

    def __init__(self, websocket: WebSocket, dialect: Dialect, outbox: Outbox, restraint: Restraint) -> None:
        self._websocket = websocket
        self._dialect = dialect
        self._outbox = outbox
        self._restraint = restraint
        self._now_s = asyncio.get_running_loop().time
        self.said_s = self._now_s()
        self.sending_since_s: float | None = None

    async def run(self) -> None:
        """Until the outbox is closed and empty, or the client gone: raises what the socket raises then."""
        while (item := await self._outbox.take()) is not None:
            await self._restraint.until_free()
            frames: Sequence[Frame]
            if isinstance(item, ChannelEvent):
                frames = self._dialect.send(item.event, item.channel)
            else:
                frames = (item,)
            for frame in frames:
                await self._send(frame)

    async def _send(self, frame: Frame) -> None:
        self.sending_since_s = self._now_s()
        if isinstance(frame, str):
            await self._websocket.send_text(frame)
        else:
            await self._websocket.send_bytes(frame)
        self.said_s = self._now_s()
        self.sending_since_s = None
        self._restraint.sent()

    async def until_read(self, running: asyncio.Task[None], patience_s: float) -> None:
        """`running` has sent everything, or one frame could not be sent for `patience_s`."""
        last_s = self._now_s() + MAX_READING * patience_s
        while not running.done():
            left_s = min(last_s, (self.sending_since_s or self._now_s()) + patience_s) - self._now_s()
            if left_s <= 0:
                return
            await asyncio.wait([running], timeout=left_s)
        error = running.exception()
        if isinstance(error, WebSocketDisconnect | WebSocketDisconnected):
            raise error
        if error is not None:
            log.error("messages could not be sent", exc_info=error)
