"""Requests are counted, where keys or addresses have limits: 429 with Retry-After where there are no more.

A WebSocket is counted by its own shell, which can say why in the words of its protocol.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.access.limit_store import MINUTE_S, Standing
from serve_app.access.limits import Limiter
from serve_app.core.errors import LimitReached
from serve_app.protocols.doors import Operation
from serve_app.web.callers import caller_of
from serve_app.web.errors import asked_path, refuse
from serve_app.web.keys import DoorFinder

_READ_ONLY = frozenset({"GET", "HEAD"})

HEADERS = ("ratelimit", "ratelimit-policy")
"""As in draft-ietf-httpapi-ratelimit-headers-10."""


class Limited:
    """ASGI middleware, inside what knows the caller; GETs of `open_doors` (probes, documents) are free."""

    def __init__(self, app: ASGIApp, limiter: Limiter, open_doors: Iterable[Operation]) -> None:
        self._app = app
        self._limiter = limiter
        self._open_doors = DoorFinder(open_doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_free(scope):
            await self._app(scope, receive, send)
            return
        usage = self._limiter.usage(caller_of(scope))
        if not usage.limits_requests:
            await self._app(scope, receive, send)
            return
        try:
            standings = await usage.request()
        except LimitReached as error:
            await refuse(scope, receive, send, error)
            return

        async def send_with_standing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                MutableHeaders(scope=message).update(rate_headers(standings))
            await send(message)

        await self._app(scope, receive, send_with_standing)

    def _is_free(self, scope: Scope) -> bool:
        method = scope["method"]
        return method in _READ_ONLY and self._open_doors.find(method, asked_path(scope)) is not None


def rate_headers(standings: Sequence[Standing]) -> dict[str, str]:
    """How limits stand, the tightest one of each window."""
    tightest: dict[int, Standing] = {}
    for one in standings:
        known = tightest.get(one.charge.per_s)
        if known is None or one.remaining < known.remaining:
            tightest[one.charge.per_s] = one
    policies, states = [], []
    for per_s, one in sorted(tightest.items()):
        name = "minute" if per_s == MINUTE_S else "day"
        policies.append(f'"{name}";q={one.charge.limit};w={per_s}')
        states.append(f'"{name}";r={one.remaining};t={math.ceil(one.reset_s)}')
    return {"ratelimit-policy": ", ".join(policies), "ratelimit": ", ".join(states)}
