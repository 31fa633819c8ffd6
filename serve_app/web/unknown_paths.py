"""What is answered where there is no door: 404 with a sentence, to WebSockets too.

A handshake that is merely closed becomes a 403, which reads like a wrong key.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from serve_app.core.errors import UnknownPath
from serve_app.web.errors import asked_path, refuse

MAX_SHOWN_CHARS = 100


async def unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    """A router's `default`."""
    await refuse(scope, receive, send, UnknownPath(_sentence(scope)))


def _sentence(scope: Scope) -> str:
    path = asked_path(scope)
    if scope["type"] == "websocket":
        return f"no WebSocket is served at {path[:MAX_SHOWN_CHARS]}: GET / lists what is"
    app: Starlette = scope["app"]
    if any(isinstance(route, WebSocketRoute) and route.path == path for route in app.routes):
        return f"{path} is for WebSockets: open it with ws:// or wss://"
    return f"nothing is served at {path[:MAX_SHOWN_CHARS]}: GET / lists what is"
