"""No connection is used again whose request body was not read to its end.

A proxy that has a whole answer takes the connection for idle and sends the next request on it, another
client's, even where it never sent the rest of the body (HAProxy does, after a refused HTTP/2 upload): our
server takes that request for more of the body, and the other client waits in vain.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S = 2.0
"""How long the rest of a refused body is taken and dropped before the connection is closed: one that is
closed while bytes arrive is reset, and the reset may overtake the answer (RFC 9112, section 9.6)."""
MAX_LINGER_BYTES = 64 * 1024 * 1024
"""So much of it at most. What a proxy still sends on is more than its buffers: 2 MiB cost answers as none did."""


class ClosedWhereUnread:
    """ASGI middleware: `Connection: close` in every answer that begins before its request's body has ended.

    An answer that streams while its body still comes in is one of them: the connection stays open until it
    is complete. WebSockets need nothing: a connection whose handshake was refused is closed by the server.
    """

    def __init__(self, app: ASGIApp, linger_s: float = LINGER_S) -> None:
        self._app = app
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _keeps_alive(scope) and _has_body(Headers(scope=scope)):
            exchange = _Exchange(receive, send, self._linger_s)
            await self._app(scope, exchange.receive, exchange.send)
        else:
            await self._app(scope, receive, send)


class _Exchange:
    """One request with a body, and its answer."""

    def __init__(self, receive: Receive, send: Send, linger_s: float) -> None:
        self._receive = receive
        self._send = send
        self._linger_s = linger_s
        self._is_unread = True
        self._num_bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._num_bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_unread = False
        return message

    async def send(self, message: Message) -> None:
        if not self._is_unread:
            await self._send(message)
        elif message["type"] == "http.response.start":
            message.setdefault("headers", [])
            MutableHeaders(scope=message)["connection"] = "close"
            await self._send(message)
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._drop_the_rest()
            await self._send({"type": "http.response.body", "body": b""})

    async def _drop_the_rest(self) -> None:
        enough = self._num_bytes + MAX_LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(self._linger_s):
                while self._is_unread and self._num_bytes < enough:
                    await self.receive()


def _keeps_alive(scope: Scope) -> bool:
    """HTTP/2 and later, where a server speaks them itself, have no such header: their streams end alone."""
    return str(scope.get("http_version", "1.1")).startswith("1.")


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"
