"""Every door asks for a key, where the service has one, but for the pages that say how it is.

Refused before the body is read, with 401 in the door's own shape, also at the handshake of a WebSocket.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.access.keys import KnownKeys, offered_keys
from serve_app.core.errors import InvalidKey
from serve_app.web.errors import asked_path, refuse

log = structlog.get_logger(__name__)

IsTemporary = Callable[[str, str], bool]
"""Whether a key is one of ours for a while, for the path that is asked."""

_READ_ONLY = frozenset({"GET", "HEAD"})


class KeysOnly:
    """ASGI middleware: 401 without one of `keys`, or a temporary key of ours, but to GETs of `open_paths`."""

    def __init__(
        self, app: ASGIApp, keys: KnownKeys, open_paths: Collection[str], is_temporary: IsTemporary
    ) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = frozenset(open_paths)
        self._is_temporary = is_temporary

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            offered = offered_keys(Headers(scope=scope), scope.get("subprotocols", ()))
            if not self._may_pass(scope, offered):
                log.warning("key refused", path=scope["path"][:100], offered=bool(offered))
                needed = "An API key is needed: Authorization: Bearer, or X-API-Key"
                await refuse(scope, receive, send, InvalidKey("Invalid API key" if offered else needed))
                return
        await self._app(scope, receive, send)

    def _may_pass(self, scope: Scope, offered: Collection[str]) -> bool:
        path = asked_path(scope)
        if scope["type"] == "http" and scope["method"] in _READ_ONLY and path in self._open_paths:
            return True
        return any(self._keys.knows(key) or self._is_temporary(key, path) for key in offered)
