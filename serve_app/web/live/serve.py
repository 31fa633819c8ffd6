"""A live connection for a route: over its WebSocket, or over its request and answer."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from serve_app.core.errors import LimitReached
from serve_app.protocols.dialect import Dialect
from serve_app.web.callers import caller_of
from serve_app.web.door import Door
from serve_app.web.live.shell import LiveShell
from serve_app.web.live.transports import DuplexTransport, WebSocketTransport


async def serve_websocket(
    websocket: WebSocket, door: Door, dialect: Dialect, *, subprotocol: str | None = None
) -> None:
    """Serve a WebSocket that is not accepted yet, until it is closed."""
    caller, refused = caller_of(websocket.scope), None
    usage = door.limiter.usage(caller)
    try:
        await usage.request()
    except LimitReached as error:
        refused = error
    with door.connection():
        transport = WebSocketTransport(websocket, subprotocol)
        shell = LiveShell(transport, door, dialect, caller=caller, usage=usage, refused=refused)
        await shell.run()


class DuplexAnswer(Response):
    """The answer to a request whose body it reads while it streams; its session opens at once.

    What is wrong before the first line raises `SottoError`, which becomes the status.
    """

    def __init__(self, door: Door, dialect: Dialect, media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._door = door
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = DuplexTransport(receive, send, str(self.media_type))
        shell = LiveShell(
            transport,
            self._door,
            self._dialect,
            caller=caller_of(scope),
            usage=self._door.usage(scope),
            max_stall_s=self._door.settings.max_session_s,
        )
        await shell.run(open_first=True)
