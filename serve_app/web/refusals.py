"""Error frames on their way out beside the events, so that whoever refuses something need not wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.websockets import WebSocketDisconnect, WebSocketDisconnected

MAX_REFUSALS = 64
"""Errors that one connection may cause before it is closed; so many frames can wait at most."""


class Refusals:
    """A queue with a sender that lives only while something is in it."""

    def __init__(self, send: Callable[[str], Awaitable[None]], max_refusals: int = MAX_REFUSALS) -> None:
        self._send = send
        self._frames: deque[str] = deque(maxlen=max_refusals + 1)
        self._sender: asyncio.Task[None] | None = None
        self._num_left = max_refusals

    @property
    def exhausted(self) -> bool:
        return self._num_left <= 0

    def put(self, frame: str) -> None:
        """Send `frame` soon, in order."""
        self._num_left -= 1
        self._frames.append(frame)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())

    async def flushed(self) -> None:
        """Wait until everything is out, or the other side gone."""
        if self._sender is not None:
            await asyncio.wait([self._sender])

    def cancel(self) -> None:
        """The connection is over: what has not been sent is dropped."""
        if self._sender is not None:
            self._sender.cancel()

    async def _send_all(self) -> None:
        with suppress(WebSocketDisconnect, WebSocketDisconnected):
            while self._frames:
                await self._send(self._frames.popleft())
