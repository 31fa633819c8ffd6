"""The client's address, found once for every request and connection; 403 to those that may not come in."""

from __future__ import annotations

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.access.addresses import AddressRules, counted_address, parsed_address
from serve_app.core.errors import ClientAddressRefused
from serve_app.web.callers import set_address
from serve_app.web.errors import refuse

log = structlog.get_logger(__name__)

_WRITTEN_BY_PROXIES = (b"x-forwarded-for", b"forwarded")


class Addresses:
    """ASGI middleware; refuses before keys are looked at and before a body is read."""

    def __init__(self, app: ASGIApp, rules: AddressRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            written: dict[str, list[str]] = {}
            for name, value in scope["headers"]:
                if name in _WRITTEN_BY_PROXIES:
                    written.setdefault(name.decode(), []).append(value.decode("latin-1"))
            peer, own = _host(scope.get("client")), _host(scope.get("server"))
            address = self._rules.client(peer, own, written) if written else parsed_address(peer)
            set_address(scope, counted_address(address))
            if not self._rules.admits(address):
                log.warning("address refused", address=str(address), path=scope["path"][:100])
                await refuse(
                    scope, receive, send, ClientAddressRefused("This address may not use this server")
                )
                return
        await self._app(scope, receive, send)


def _host(end: tuple[str, int] | None) -> str:
    return str(end[0]) if end else ""
