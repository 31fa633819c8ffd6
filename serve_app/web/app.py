"""The web application: all doors as one Starlette app, for a Serve ingress or any ASGI server."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serve_app.protocols.answer_headers import COMPLETE_HEADER, WARNING_HEADER
from serve_app.service import SpeechService
from serve_app.telemetry.metrics import Metrics, no_metrics
from serve_app.web.api_documents import api_document_routes
from serve_app.web.deepgram_doors import deepgram_routes
from serve_app.web.door import Door, DoorSettings
from serve_app.web.errors import exception_handlers
from serve_app.web.health import health_routes
from serve_app.web.live_doors import live_routes
from serve_app.web.metrics import metrics_routes
from serve_app.web.openai_doors import openai_routes
from serve_app.web.origins import KnownOrigins, canonical_origin
from serve_app.web.request_ids import RequestIds
from serve_app.web.transcribe import transcribe_routes
from serve_app.web.transcribe_stream import transcribe_stream_routes
from serve_app.web.unknown_paths import unknown_path
from serve_app.web.unread_bodies import ClosedWhereUnread


class Doors(Starlette):
    """All doors; what holds for every answer also holds for those of an unexpected failure."""

    def build_middleware_stack(self) -> ASGIApp:
        return RequestIds(ClosedWhereUnread(super().build_middleware_stack()))


def create_app(
    service: SpeechService,
    settings: DoorSettings,
    metrics: Metrics | None = None,
    *,
    cors_origins: Sequence[str] = (),
    signing_key: bytes | None = None,
) -> Starlette:
    """Doors of `service`. Web pages of other origins are let in only where `cors_origins` names them.

    `metrics` receives what the doors count. `signing_key` signs client secrets; None: one of this process.
    Raises `UnsupportedLanguage` for the default language.
    """
    door = Door(service, settings, metrics or no_metrics())
    middleware = [Middleware(KnownOrigins, listed=cors_origins)]
    if cors_origins:
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=list(map(canonical_origin, cors_origins)),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "retry-after", WARNING_HEADER, COMPLETE_HEADER],
            ),
        )
    app = Doors(
        routes=[
            *health_routes(door),
            *metrics_routes(door),
            *transcribe_routes(door),
            *transcribe_stream_routes(door),
            *live_routes(door, ws_protocol=settings.ws_protocol),
            *openai_routes(door, signing_key),
            *deepgram_routes(door),
            *api_document_routes(door),
        ],
        middleware=middleware,
        exception_handlers=exception_handlers(),
    )
    app.router.default = unknown_path
    return app
