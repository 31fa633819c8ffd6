"""The web application: all doors as one Starlette app, for a Serve ingress or any ASGI server."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serve_app.access.keys import KnownKeys
from serve_app.cache.results import ResultCache
from serve_app.clips.ports import Clips
from serve_app.jobs.desk import JobDesk
from serve_app.protocols.doors import Operation
from serve_app.service.contract import SpeechService
from serve_app.telemetry.metrics import Metrics, no_metrics
from serve_app.web.door import Door, DoorSettings
from serve_app.web.door_table import PROTOCOLS, Protocol, doors_of, routes_of
from serve_app.web.errors import exception_handlers
from serve_app.web.keys import KeysOnly
from serve_app.web.openai_realtime import opens_realtime
from serve_app.web.origins import KnownOrigins, canonical_origin
from serve_app.web.request_ids import RequestIds
from serve_app.web.unknown_paths import unknown_path
from serve_app.web.unread_bodies import ClosedWhereUnread
from sotto_client.recordings import COMPLETE_HEADER, WARNING_HEADER


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
    api_key: str | None = None,
    jobs: JobDesk | None = None,
    clips: Clips | None = None,
    cache: ResultCache | None = None,
    protocols: Sequence[Protocol] = PROTOCOLS,
) -> Starlette:
    """Doors of `protocols` to `service`. Web pages of other origins come in where `cors_origins` names them.

    `metrics` receives what the doors count. `signing_key` signs client secrets; None: one of this process.
    `api_key`: what every request must carry, but for doors that say that they need none; None: no request.
    `jobs` are queued, `clips` stored, and `cache` has results; None: nothing is kept. Raises
    `UnsupportedLanguage` for the default language.
    """
    door = Door(
        service,
        settings,
        metrics or no_metrics(),
        described=doors_of(protocols),
        signing_key=signing_key,
        jobs=jobs,
        clips=clips,
        cache=cache,
    )
    middleware = [Middleware(KnownOrigins, listed=cors_origins)]
    if api_key is not None:
        open_paths = [one.path for one in door.described if isinstance(one, Operation) and not one.needs_key]
        middleware.append(
            Middleware(
                KeysOnly,
                keys=KnownKeys([api_key]),
                open_paths=open_paths,
                is_temporary=lambda key, path: opens_realtime(key, path, door.signing_key),
            )
        )
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
        routes=routes_of(door, protocols),
        middleware=middleware,
        exception_handlers=exception_handlers(),
    )
    app.router.default = unknown_path
    return app
