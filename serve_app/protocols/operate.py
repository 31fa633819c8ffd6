"""The body of `GET /v1/operate`: how the whole service does, for those who run it. No secret is in it.

What replicas count comes from the merged metrics, so it is of all ingress replicas, and some ten seconds old.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import UNSET, UnsetType

from serve_app.access.api_keys import ApiKey
from serve_app.access.caller import Scope
from serve_app.capacity.ladder import Rung
from serve_app.protocols import health
from serve_app.service.contract import DeploymentReplicas, ServiceStatus
from serve_app.telemetry import families
from serve_app.telemetry.exposition import Figures
from sotto_client.wire import Written, means

MAX_KEYS: Final = 200
MAX_FAILURES: Final = 50
_LEVELS: Final = ("normal", "high", "critical")


class LiveSessions(Written, frozen=True, kw_only=True):
    """Since the service started, but for those that are open."""

    connections: Annotated[int, means("WebSockets that are open.")]
    started: int
    resumed: Annotated[int, means("Of those: went on with a ticket.")]
    ended: dict[str, int]
    max_per_replica: int


class Work(Written, frozen=True, kw_only=True):
    """What waits, and what is being worked on."""

    finals: int
    interims: int
    uploads: int
    jobs_waiting: Annotated[int | None, means("Null where no recordings are kept, or their store is away.")]
    level: Annotated[str, means("Of backpressure; the worst of all replicas.", values=_LEVELS)]
    rung: Annotated[str, means("What gives way.", values=tuple(one.name.lower() for one in Rung))]


class Replicas(Written, frozen=True, kw_only=True):
    """The replicas of one deployment, by their state."""

    deployment: str
    status: str
    states: dict[str, int]


class Card(Written, frozen=True, kw_only=True):
    """One GPU; null: it does not say."""

    uuid: str
    name: str
    memory_used_bytes: int
    memory_total_bytes: int
    utilisation: float | None
    temperature_celsius: float | None
    power_watts: float | None


class Refused(Written, frozen=True, kw_only=True):
    """What was refused for want of room, or since a limit was reached."""

    what: str
    reason: str
    count: int


class Failure(Written, frozen=True, kw_only=True):
    """Requests and connections that ended with the same error."""

    door: str
    status: Annotated[str, means("Of HTTP, or the code that a WebSocket was closed with.")]
    reason: Annotated[str, means("The error's code.")]
    count: int
    last_at: Annotated[str | None, means("ISO 8601; null where the replica that knew has ended.")]


class Figured(Written, frozen=True, kw_only=True):
    """What all replicas together have counted."""

    sessions: LiveSessions
    work: Work
    gpus: tuple[Card, ...]
    refused: tuple[Refused, ...]
    failures: Annotated[tuple[Failure, ...], means(f"The {MAX_FAILURES} that happened last.")]
    failed_decodes: dict[str, int]


class ShownKey(Written, frozen=True, kw_only=True):
    """A key by what names it: neither its text nor what is kept to check it."""

    id: str
    name: str
    scopes: tuple[str, ...]
    state: Annotated[str, means("", values=("active", "revoked", "expired"))]
    created_at: str
    expires_at: str | None = None
    limits: dict[str, float] = {}


class Keys(Written, frozen=True, kw_only=True):
    """The keys that the answering replica knows; they are the same on all within seconds."""

    total: int
    newest: Annotated[tuple[ShownKey, ...], means(f"{MAX_KEYS} at most.")]
    plain: Annotated[bool, means("Whether there is one in a setting, which may do all, beside them.")]


class Operating(Written, frozen=True, kw_only=True):
    """The service, all replicas of it."""

    at: str
    version: str
    ready: bool
    accepting: bool
    models: tuple[health.LoadedModel, ...]
    degraded: health.Degraded = UNSET
    figures: Annotated[Figured | None, means("Null where metrics are switched off.")]
    replicas: Annotated[tuple[Replicas, ...] | UnsetType, means("Left out while they cannot be asked.")] = (
        UNSET
    )
    keys: Annotated[Keys | None, means("Null where the service asks for none.")]


@dataclass(frozen=True, slots=True)
class Known:
    """What `operating_body` is made from: `figures` as the exporters' text, where metrics are on."""

    status: ServiceStatus
    version: str
    figures: str | None
    jobs_waiting: int | None
    replicas: Sequence[DeploymentReplicas] | None
    keys: tuple[Sequence[ApiKey], bool] | None


def operating_body(known: Known, now_s: float) -> Operating:
    """Parses the text, which takes milliseconds: call it in a thread."""
    status = known.status
    figures = None if known.figures is None else Figures(known.figures)
    return Operating(
        at=_when(now_s),
        version=known.version,
        ready=status.ready,
        accepting=status.accepting,
        models=tuple(map(health.loaded_model, status.models)),
        degraded=status.degraded or UNSET,
        figures=None if figures is None else _figured(figures, status.max_sessions, known.jobs_waiting),
        replicas=UNSET
        if known.replicas is None
        else tuple(
            Replicas(deployment=one.deployment, status=one.status, states=dict(one.states))
            for one in known.replicas
        ),
        keys=None if known.keys is None else _keys(*known.keys, now_s),
    )


def _figured(figures: Figures, max_sessions: int, jobs_waiting: int | None) -> Figured:
    queues = figures.by_label(families.QUEUE_DEPTH, "queue_type")
    started = figures.by_label(families.SESSIONS_STARTED, "resumed")
    level, rung = (
        round(figures.one(one)) for one in (families.BACKPRESSURE_LEVEL, families.BACKPRESSURE_RUNG)
    )
    decodes = figures.of(families.JOBS_PROCESSED)
    return Figured(
        sessions=LiveSessions(
            connections=round(figures.one(families.ACTIVE_CONNECTIONS)),
            started=sum(started.values()),
            resumed=started.get("true", 0),
            ended=figures.by_label(families.SESSIONS_ENDED, "reason"),
            max_per_replica=max_sessions,
        ),
        work=Work(
            finals=queues.get("final", 0),
            interims=queues.get("interim", 0),
            uploads=round(figures.one(families.ACTIVE_REQUESTS)),
            jobs_waiting=jobs_waiting,
            level=_LEVELS[min(level, len(_LEVELS) - 1)],
            rung=Rung(min(rung, max(Rung))).name.lower(),
        ),
        gpus=_cards(figures),
        refused=tuple(
            Refused(what=labels["request_type"], reason=labels["reason"], count=round(count))
            for labels, count in figures.of(families.REFUSED)
        ),
        failures=_failures(figures),
        failed_decodes={
            labels["job_type"]: round(count) for labels, count in decodes if labels["status"] == "error"
        },
    )


def _cards(figures: Figures) -> tuple[Card, ...]:
    totals, used, utilisation, temperature, power = (
        {labels["gpu_uuid"]: (labels["gpu_name"], value) for labels, value in figures.of(family)}
        for family in (
            families.GPU_MEMORY_TOTAL,
            families.GPU_MEMORY_USED,
            families.GPU_UTILISATION,
            families.GPU_TEMPERATURE,
            families.GPU_POWER,
        )
    )
    unknown = ("", None)
    return tuple(
        Card(
            uuid=uuid,
            name=name,
            memory_total_bytes=round(total),
            memory_used_bytes=round(used.get(uuid, ("", 0))[1]),
            utilisation=utilisation.get(uuid, unknown)[1],
            temperature_celsius=temperature.get(uuid, unknown)[1],
            power_watts=power.get(uuid, unknown)[1],
        )
        for uuid, (name, total) in sorted(totals.items())
    )


def _failures(figures: Figures) -> tuple[Failure, ...]:
    """The newest first."""
    last_s = {tuple(labels.values()): when_s for labels, when_s in figures.of(families.LAST_FAILURE)}

    def when(one: tuple[dict[str, str], float]) -> float:
        return last_s.get(tuple(one[0].values()), 0.0)

    newest = heapq.nlargest(MAX_FAILURES, figures.of(families.FAILURES), key=when)
    return tuple(
        Failure(**one[0], count=round(one[1]), last_at=_when(when(one)) if when(one) else None)
        for one in newest
    )


def _keys(keys: Sequence[ApiKey], plain: bool, now_s: float) -> Keys:
    newest = heapq.nlargest(MAX_KEYS, keys, key=lambda key: (key.created_s, key.id))
    return Keys(total=len(keys), newest=tuple(_shown(key, now_s) for key in newest), plain=plain)


def _shown(key: ApiKey, now_s: float) -> ShownKey:
    limits = {name: getattr(key.limits, name) for name in key.limits.__slots__}
    return ShownKey(
        id=key.id,
        name=key.name,
        scopes=tuple(scope for scope in Scope if scope in key.scopes),
        state=key.state(now_s),
        created_at=_when(key.created_s),
        expires_at=None if key.expires_s is None else _when(key.expires_s),
        limits={name: limit for name, limit in limits.items() if limit is not None},
    )


def _when(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")
