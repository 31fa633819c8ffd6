"""The web application: all doors as one Starlette app, for a Serve ingress or any ASGI server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serve_app.access.addresses import AddressRules
from serve_app.access.keyring import Keyring
from serve_app.access.limits import Limiter
from serve_app.cache.results import ResultCache
from serve_app.clips.ports import Clips
from serve_app.core.erasure import Eraser
from serve_app.jobs.desk import JobDesk
from serve_app.protocols.doors import Described, Operation
from serve_app.service.contract import SpeechService
from serve_app.telemetry.metrics import Metrics, no_metrics
from serve_app.telemetry.traces import Traces
from serve_app.web.addresses import Addresses
from serve_app.web.bounds import BodyPace, Bounds
from serve_app.web.door import Door, DoorSettings
from serve_app.web.door_table import PROTOCOLS, Protocol, doors_of, routes_of
from serve_app.web.errors import exception_handlers
from serve_app.web.keys import Callers
from serve_app.web.limited import HEADERS as RATE_HEADERS
from serve_app.web.limited import Limited
from serve_app.web.origins import KnownOrigins, canonical_origin
from serve_app.web.request_ids import RequestIds
from serve_app.web.request_records import RecordKeeper, RequestRecords
from serve_app.web.tracing import Traced
from serve_app.web.unknown_paths import unknown_path
from serve_app.web.unread_bodies import ClosedWhereUnread
from sotto_client.recordings import COMPLETE_HEADER, WARNING_HEADER


class Doors(Starlette):
    """All doors; what holds for every answer also holds for those of an unexpected failure."""

    def __init__(self, described: Sequence[Described], keeper: RecordKeeper | None, **options: Any) -> None:
        super().__init__(**options)
        self._described = described
        self._keeper = keeper

    def build_middleware_stack(self) -> ASGIApp:
        answering = ClosedWhereUnread(super().build_middleware_stack())
        return RequestIds(RequestRecords(answering, self._described, self._keeper))


def create_app(
    service: SpeechService,
    settings: DoorSettings,
    metrics: Metrics | None = None,
    *,
    cors_origins: Sequence[str] = (),
    signing_key: bytes | None = None,
    api_key: str | None = None,
    keys: Keyring | None = None,
    keys_in_address: bool = False,
    metrics_need_key: bool = False,
    traces: Traces | None = None,
    addresses: AddressRules | None = None,
    limiter: Limiter | None = None,
    pace: BodyPace | None = None,
    jobs: JobDesk | None = None,
    clips: Clips | None = None,
    cache: ResultCache | None = None,
    protocols: Sequence[Protocol] = PROTOCOLS,
    keeper: RecordKeeper | None = None,
    erasers: Sequence[Eraser] = (),
) -> Starlette:
    """Doors of `protocols` to `service`. Web pages of other origins come in where `cors_origins` names them.

    `metrics` receives what the doors count. `signing_key` signs client secrets and tokens; None: one of this
    process. `keys`: of which every request must carry one, but for doors that say that they need none; None:
    no request. `api_key`: the same, where there is only this one. `keys_in_address`, `metrics_need_key`:
    `Callers`. `addresses`: whose word on a client's address is taken, and which clients may come in.
    `limiter`: what keys and addresses may use; None: all that they want. `pace`: how slowly bodies may come.
    `traces`: where requests have spans; None: nowhere. `jobs` are queued, `clips` stored, and `cache` has
    results; None: nothing is kept. `keeper` takes the record of each request, for the audit log; `erasers`
    are asked at `DELETE /v1/data`. Raises `UnsupportedLanguage`.
    """
    if keys is None and api_key is not None:
        keys = Keyring(plain=api_key)
    door = Door(
        service,
        settings,
        metrics or no_metrics(),
        described=doors_of(protocols),
        signing_key=signing_key,
        keys=keys,
        keeper=keeper,
        erasers=erasers,
        limiter=limiter,
        jobs=jobs,
        clips=clips,
        cache=cache,
    )
    operations = [one for one in door.described if isinstance(one, Operation)]
    live_paths = [one.path for one in operations if one.is_live]
    middleware = [
        Middleware(Bounds, pace=pace or BodyPace(), live_paths=live_paths),
        Middleware(Addresses, rules=addresses or AddressRules()),
        Middleware(KnownOrigins, listed=cors_origins),
        Middleware(
            Callers,
            keys=keys,
            doors=door.described,
            signing_key=door.signing_key,
            in_address=keys_in_address,
            metrics_need_key=metrics_need_key,
        ),
    ]
    if limiter is not None:
        open_paths = [one.path for one in operations if not one.needs_key]
        middleware.append(Middleware(Limited, limiter=limiter, open_paths=open_paths))
    if cors_origins:
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=list(map(canonical_origin, cors_origins)),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=[
                    "x-request-id",
                    "retry-after",
                    *RATE_HEADERS,
                    WARNING_HEADER,
                    COMPLETE_HEADER,
                ],
            ),
        )
    if traces is not None:
        paths = [one.path for one in door.described]
        probes = [one.path for one in door.described if isinstance(one, Operation) and one.tag == "service"]
        middleware.insert(0, Middleware(Traced, traces=traces, paths=paths, untraced=probes))
    app = Doors(
        door.described,
        keeper,
        routes=routes_of(door, protocols),
        middleware=middleware,
        exception_handlers=exception_handlers(),
    )
    app.router.default = unknown_path
    return app
