"""Which web pages may use the service: those it serves itself under, and those that are listed.

Browsers let any page open a WebSocket to any address, and send simple POSTs there; what stops them is the
server, by the `Origin` that browsers send and no page can forge. CORS headers only decide whether a page may
read the answer, when the work is done already.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.core.errors import OriginRefused
from serve_app.web.errors import refuse

log = structlog.get_logger(__name__)

ANY_ORIGIN = "*"
MAX_SHOWN_CHARS = 100

_READ_ONLY = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change and transcribe nothing, and a page that is not listed cannot read their answers."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class KnownOrigins:
    """ASGI middleware: 403 to a WebSocket or a POST from a page of an origin that is not `listed`.

    A request without `Origin` comes from no web page and passes; so does one from a page of the very host
    (and port) that is asked, as the client or a proxy in front (`X-Forwarded-Host`) names it.
    """

    def __init__(self, app: ASGIApp, listed: Collection[str]) -> None:
        self._app = app
        self._listed = frozenset(map(canonical_origin, listed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in _READ_ONLY):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._allows(canonical_origin(origin), headers):
                shown = origin[:MAX_SHOWN_CHARS]
                log.warning("origin refused", origin=shown, path=scope["path"][:MAX_SHOWN_CHARS])
                error = OriginRefused(
                    f"web pages of {shown} may not use this server: list them in its setting cors_origins"
                )
                await refuse(scope, receive, send, error)
                return
        await self._app(scope, receive, send)

    def _allows(self, origin: str, headers: Headers) -> bool:
        if ANY_ORIGIN in self._listed or origin in self._listed:
            return True
        forwarded = headers.get("x-forwarded-host", "").partition(",")[0]
        hosts = (headers.get("host", ""), forwarded.strip())
        return any(_is_same(origin, host) for host in hosts if host)


def canonical_origin(origin: str) -> str:
    """As browsers write it, so that what is listed as `https://Example.org/` matches."""
    origin = origin.strip().lower()
    return origin if origin.endswith("://") else origin.removesuffix("/")


def _is_same(origin: str, host: str) -> bool:
    """Whether the page came from `host`: compared by name and port, since a proxy may have ended TLS."""
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"//{host}")
        default = _DEFAULT_PORTS.get(page.scheme)
        if default is None or not page.hostname:
            return False
        return (page.hostname, page.port or default) == (asked.hostname, asked.port or default)
    except ValueError:
        return False
