"""A streaming answer that begins while the body of its own request is still coming in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""No proxy may collect the lines of an answer: nginx heeds the second of these."""


class Duplex(StreamingResponse):
    """Only streams; `receive` is left to the reader of the body.

    Starlette's own `StreamingResponse` listens for a disconnect with `receive()` and so takes chunks of the
    body away from its reader. Here the generator has to end by itself when its reader sees the disconnect.
    A client that takes no line for `max_stall_s` is given up. `on_closed` is called in every case, also
    where the generator never ran.
    """

    def __init__(
        self,
        lines: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        max_stall_s: float,
        on_closed: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            lines,
            media_type=media_type,
            headers={**STREAM_HEADERS, **(headers or {})},
        )
        self._lines = lines
        self._max_stall_s = max_stall_s
        self._on_closed = on_closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._max_stall_s):
                await send(message)

        try:
            async with aclosing(self._lines):
                with suppress(OSError, TimeoutError):
                    await self.stream_response(send_in_time)
        finally:
            self._on_closed()
