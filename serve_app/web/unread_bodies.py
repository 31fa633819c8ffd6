"""No connection is used again whose request body was not read to its end.

A proxy that has a whole answer takes the connection for idle and sends the next request on it, another
client's, even where it never sent the rest of the body (HAProxy does, after a refused HTTP/2 upload): our
server takes that request for more of the body, and the other client waits in vain.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ClosedWhereUnread:
    """ASGI middleware: `Connection: close` in every answer that begins before its request's body has ended.

    An answer that streams while its body still comes in is one of them: the connection stays open until it
    is complete. WebSockets need nothing: a connection whose handshake was refused is closed by the server.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _keeps_alive(scope) or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        is_unread = True

        async def receive_and_note() -> Message:
            nonlocal is_unread
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                is_unread = False
            return message

        async def send_and_close(message: Message) -> None:
            if is_unread and message["type"] == "http.response.start":
                message.setdefault("headers", [])
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive_and_note, send_and_close)


def _keeps_alive(scope: Scope) -> bool:
    """HTTP/2 and later, where a server speaks them itself, have no such header: their streams end alone."""
    return str(scope.get("http_version", "1.1")).startswith("1.")


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"
