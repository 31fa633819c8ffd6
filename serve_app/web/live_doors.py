"""The WebSocket routes: which dialect speaks where."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from serve_app.protocols.choices import Parameters
from serve_app.protocols.dialect import Dialect
from serve_app.protocols.first_frame import FirstFrameDialect, ProtocolName
from serve_app.protocols.native_dialect import NativeDialect
from serve_app.protocols.opus_stream import OpusStreamDialect
from serve_app.protocols.whisper_live_kit import WhisperLiveKitDialect
from serve_app.web.door import Door
from serve_app.web.live_socket import LiveSocket


def live_routes(door: Door, *, ws_protocol: ProtocolName = "auto") -> list[BaseRoute]:
    """Live doors of `door`. `ws_protocol`: what `/ws` speaks where the address does not say."""
    ping_s = door.settings.heartbeat_s

    def stream(parameters: Parameters) -> Dialect:
        return OpusStreamDialect(parameters, ping_s=ping_s)

    return [
        dialect_route("/ws/stt", door, NativeDialect),
        dialect_route("/ws", door, lambda parameters: FirstFrameDialect(parameters, protocol=ws_protocol)),
        dialect_route("/asr", door, WhisperLiveKitDialect),
        dialect_route("/ws/stream", door, stream),
        dialect_route("/api/ws/stream", door, stream),
    ]


def dialect_route(path: str, door: Door, dialect: Callable[[Parameters], Dialect]) -> WebSocketRoute:
    """A route whose connections speak what `dialect` makes of their address's parameters."""

    async def live(websocket: WebSocket) -> None:
        parameters = websocket.query_params.multi_items()
        await LiveSocket(websocket, door, dialect(parameters)).run()

    return WebSocketRoute(path, live)
