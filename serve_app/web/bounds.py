"""What a request may cost before any door has looked at it: headers, address, the time its body takes.

A body that trickles holds one of the few places for uploads. It is given up where it comes slower, on
average, than the least rate, or takes longer than the longest upload; both are the operator's. Doors that
answer while their audio comes in have limits of their own (`idle_timeout_s`, `max_session_s`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.core.errors import AddressTooLong, BodyTooSlow, HeadersTooLarge, SottoError
from serve_app.web.errors import asked_path, refuse

MAX_HEADERS: Final = 128
MAX_HEADER_BYTES: Final = 64 * 1024
"""Client secrets, which carry a session's settings, take 24 KiB at most."""
MAX_ADDRESS_BYTES: Final = 48 * 1024
"""A prompt and hotwords fit into a query."""
GRACE_S: Final = 15.0
"""How far a body may be behind the least rate: a slow start, a pause of the network."""


@dataclass(frozen=True, slots=True)
class BodyPace:
    """How slowly a body may come: bytes a second on average, and in all; what `STT_` settings name."""

    min_bytes_per_s: float = 500.0
    timeout_s: float = 3600.0


class Bounds:
    """ASGI middleware; `live_paths` take as long as their audio."""

    def __init__(self, app: ASGIApp, pace: BodyPace, live_paths: Collection[str] = ()) -> None:
        self._app = app
        self._pace = pace
        self._live_paths = frozenset(live_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        error = _out_of_bounds(scope)
        if error is not None:
            await refuse(scope, receive, send, error)
        elif scope["type"] == "http" and asked_path(scope) not in self._live_paths:
            await self._app(scope, _PacedBody(receive, self._pace).receive, send)
        else:
            await self._app(scope, receive, send)


class _PacedBody:
    """`receive` of one request, which raises `BodyTooSlow` while its body is behind."""

    def __init__(self, receive: Receive, pace: BodyPace) -> None:
        self._receive = receive
        self._pace = pace
        self._began_s = time.monotonic()
        self._num_bytes = 0
        self._has_ended = False

    async def receive(self) -> Message:
        if self._has_ended:
            return await self._receive()
        pace = self._pace
        allowed_s = min(GRACE_S + self._num_bytes / pace.min_bytes_per_s, pace.timeout_s)
        try:
            async with asyncio.timeout(max(0.0, self._began_s + allowed_s - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            self._has_ended = True
            raise BodyTooSlow(
                f"{self._num_bytes} bytes of the body came within {allowed_s:.0f} s: expected at least "
                f"{pace.min_bytes_per_s:g} a second, and all of it within {pace.timeout_s:g} s"
            ) from None
        self._num_bytes += len(message.get("body", b""))
        self._has_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def _out_of_bounds(scope: Scope) -> SottoError | None:
    headers = scope["headers"]
    if len(headers) > MAX_HEADERS:
        return HeadersTooLarge(f"{len(headers)} headers, the limit is {MAX_HEADERS}")
    num_bytes = sum(len(name) + len(value) for name, value in headers)
    if num_bytes > MAX_HEADER_BYTES:
        return HeadersTooLarge(f"{num_bytes} bytes of headers, the limit is {MAX_HEADER_BYTES}")
    num_bytes = len(scope["query_string"]) + len(scope["path"])
    if num_bytes > MAX_ADDRESS_BYTES:
        return AddressTooLong(f"an address of {num_bytes} bytes, the limit is {MAX_ADDRESS_BYTES}")
    return None
