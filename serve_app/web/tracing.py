"""A span for every request and WebSocket, below the client's own where it sends a `traceparent`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from starlette.datastructures import Headers
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.telemetry.traces import Traces, fail
from serve_app.web.callers import caller_of
from serve_app.web.errors import asked_path
from serve_app.web.request_ids import HEADER

UNKNOWN = "unknown path"
"""What a client asks for where nothing is may be anything, and is not written down."""
MAX_TRACEPARENT_CHARS = 128
FIRST_FAILURE = 500


class Traced:
    """ASGI middleware; it wraps `send` only. Spans have the route's pattern, not the address."""

    def __init__(self, app: ASGIApp, traces: Traces, paths: Iterable[str], untraced: Collection[str]) -> None:
        """`untraced`: paths of probes and the like, which would bury the rest."""
        self._app = app
        self._traces = traces
        self._untraced = frozenset(untraced)
        self._plain = {path for path in paths if "{" not in path}
        self._patterns = [(path, compile_path(path)[0]) for path in paths if "{" in path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or asked_path(scope) in self._untraced:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        method = scope["method"] if scope["type"] == "http" else "WS"
        route = self._route(asked_path(scope))
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "sotto.request_id": self._traces.shown(headers.get(HEADER, "")),
        }
        given = headers.get("traceparent", "")
        parent = given if len(given) <= MAX_TRACEPARENT_CHARS else ""
        with self._traces.request(f"{method} {route}", parent, attributes) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] in ("http.response.start", "websocket.http.response.start"):
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= FIRST_FAILURE:
                        fail(span)
                elif message["type"] == "websocket.close":
                    span.set_attribute("sotto.close_code", message.get("code", 1000))
                await send(message)

            try:
                await self._app(scope, receive, send_traced)
            except Exception as error:
                fail(span, error_type=type(error).__name__)
                raise
            finally:
                span.set_attribute("sotto.key_id", caller_of(scope).key_id)

    def _route(self, path: str) -> str:
        if path in self._plain:
            return path
        return next((shown for shown, pattern in self._patterns if pattern.match(path)), UNKNOWN)
