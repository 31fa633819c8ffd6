"""The web application: all doors as one Starlette app, for a Serve ingress or any ASGI server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serve_app.access.addresses import AddressRules
from serve_app.access.keyring import Keyring
from serve_app.access.limits import Limiter
from serve_app.protocols.doors import Operation
from serve_app.service.contract import SpeechService
from serve_app.settings import Settings
from serve_app.telemetry.metrics import Metrics, no_metrics
from serve_app.telemetry.traces import Traces
from serve_app.web.addresses import Addresses
from serve_app.web.bounds import BodyPace, Bounds
from serve_app.web.door import Door, Kept, ReplicaCounts
from serve_app.web.door_table import PROTOCOLS, Protocol, doors_of, routes_of
from serve_app.web.errors import exception_handlers
from serve_app.web.keys import Callers
from serve_app.web.limited import HEADERS as RATE_HEADERS
from serve_app.web.limited import Limited
from serve_app.web.origins import KnownOrigins, canonical_origin
from serve_app.web.request_ids import RequestIds
from serve_app.web.request_records import RequestRecords
from serve_app.web.tracing import Traced
from serve_app.web.unknown_paths import unknown_path
from serve_app.web.unread_bodies import ClosedWhereUnread
from sotto_client.recordings import COMPLETE_HEADER, WARNING_HEADER


class Doors(Starlette):
    """All doors; what holds for every answer also holds for those of an unexpected failure."""

    def __init__(self, door: Door, **options: Any) -> None:
        super().__init__(**options)
        self._door = door

    def build_middleware_stack(self) -> ASGIApp:
        answering = ClosedWhereUnread(super().build_middleware_stack())
        door = self._door
        return RequestIds(RequestRecords(answering, door.described, door.keeper, metrics=door.metrics))


@dataclass(frozen=True, slots=True)
class Guards:
    """What stands in front of all doors.

    `cors_origins`: whose web pages may come in. `keys`: of which every request must carry one, but for doors
    that say that they need none; None: no request. `keys_in_address`, `metrics_need_key`: as in `Callers`.
    `addresses`: whose word on a client's address is taken, and which clients may come in. `limiter`: what
    keys and addresses may use; None: all that they want. `pace`: how slowly bodies may come.
    """

    cors_origins: Sequence[str] = ()
    keys: Keyring | None = None
    keys_in_address: bool = False
    metrics_need_key: bool = False
    addresses: AddressRules = field(default_factory=AddressRules)
    limiter: Limiter | None = None
    pace: BodyPace = field(default_factory=BodyPace)


def create_app(
    service: SpeechService,
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    guards: Guards | None = None,
    kept: Kept | None = None,
    signing_key: bytes | None = None,
    traces: Traces | None = None,
    replicas: ReplicaCounts | None = None,
    protocols: Sequence[Protocol] = PROTOCOLS,
) -> Starlette:
    """Doors of `protocols` to `service`, behind `guards`; without them every page and client may come in.

    `metrics` receives what the doors count. `kept`: what outlives a request; None: nothing. `signing_key`
    signs client secrets and tokens; None: one of this process. `traces`: where requests have spans; None:
    nowhere. `replicas`: asked for how many there are; None: unknown.
    """
    guards, kept = guards or Guards(), kept or Kept()
    door = Door(
        service,
        settings,
        metrics or no_metrics(),
        described=doors_of(protocols),
        signing_key=signing_key,
        keys=guards.keys,
        limiter=guards.limiter,
        kept=kept,
        replicas=replicas,
    )
    app = Doors(
        door,
        routes=routes_of(door, protocols),
        middleware=list(_middleware(guards, door, traces)),
        exception_handlers=exception_handlers(),
    )
    app.router.default = unknown_path
    return app


def _middleware(guards: Guards, door: Door, traces: Traces | None) -> Iterator[Middleware]:
    """From the outside in."""
    operations = [one for one in door.described if isinstance(one, Operation)]
    if traces is not None:
        paths = [one.path for one in door.described]
        probes = [one.path for one in operations if one.tag == "service"]
        yield Middleware(Traced, traces=traces, paths=paths, untraced=probes)
    if guards.cors_origins:
        yield Middleware(
            CORSMiddleware,
            allow_origins=list(map(canonical_origin, guards.cors_origins)),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after", *RATE_HEADERS, WARNING_HEADER, COMPLETE_HEADER],
        )
    live_paths = [one.path for one in operations if one.is_live]
    yield Middleware(Bounds, pace=guards.pace, live_paths=live_paths)
    yield Middleware(Addresses, rules=guards.addresses)
    yield Middleware(KnownOrigins, listed=guards.cors_origins)
    yield Middleware(
        Callers,
        keys=guards.keys,
        doors=door.described,
        signing_key=door.signing_key,
        in_address=guards.keys_in_address,
        metrics_need_key=guards.metrics_need_key,
    )
    if guards.limiter is not None:
        open_doors = [one for one in operations if not one.needs_key]
        yield Middleware(Limited, limiter=guards.limiter, open_doors=open_doors)
