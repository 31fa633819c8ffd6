"""The bodies of `GET /` and of the probes, from one snapshot of the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from serve_app.core.jobs import ModelInfo
from serve_app.service.contract import ServiceStatus
from sotto_client.wire import Written


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """What does not change while the service runs. `language` "auto" means: detected."""

    version: str
    language: str
    max_audio_length_s: float
    cache_type: str | None = None
    endpoints: tuple[str, ...] = ()
    partial_interval_ms: int = 0
    max_partial_window_s: float = 0.0


class RootConfig(Written, frozen=True, kw_only=True):
    model: str | None
    device: str | None
    compute_type: str | None
    cache_enabled: bool
    cache_type: str | None
    language: str
    max_audio_length: float


class Root(Written, frozen=True, kw_only=True):
    service: Literal["sotto"] = "sotto"
    status: Literal["online"] = "online"
    config: RootConfig
    version: str
    endpoints: tuple[str, ...]


Degraded: TypeAlias = Annotated[
    tuple[str, ...] | UnsetType,
    Meta(description="Deployments without a loaded replica that answers; left out where all have one."),
]


class Health(Written, frozen=True, kw_only=True):
    status: Literal["healthy", "unhealthy"]
    model: Literal["loaded", "loading"]
    cache: Literal["enabled", "disabled"]
    ready: bool
    version: str
    degraded: Degraded = UNSET


class Ready(Written, frozen=True, kw_only=True):
    status: Literal["ready", "not_ready"]
    ready: bool
    degraded: Degraded = UNSET


class Live(Written, frozen=True, kw_only=True):
    status: Literal["alive"] = "alive"


class Startup(Written, frozen=True, kw_only=True):
    status: Literal["started", "starting"]
    started: bool


class StatusModel(Written, frozen=True, kw_only=True):
    model_size: str | None
    device: str | None
    compute_type: str | None
    ready: bool


class Queue(Written, frozen=True, kw_only=True):
    depth: int
    avg_partial_ms: float
    avg_final_ms: float
    estimated_server_total_ms: float
    accepting_requests: bool
    total_requests: int
    rejected_requests: int


class Sessions(Written, frozen=True, kw_only=True):
    active: int
    max: int


class Capacity(Written, frozen=True, kw_only=True):
    estimated_max_concurrent: int
    current_load_percent: float


class LoadedModel(Written, frozen=True, kw_only=True):
    name: str
    role: str
    engine: str
    device: str
    compute_type: str
    multilingual: bool


class Status(Written, frozen=True, kw_only=True):
    """Models, queue, sessions and load of this process."""

    status: Literal["ready", "not_ready"]
    accepting_requests: bool
    model: StatusModel
    queue: Queue
    sessions: Sessions
    capacity: Capacity
    models: tuple[LoadedModel, ...]
    audit_log: Literal["writing", "failing"] | UnsetType = UNSET
    degraded: Degraded = UNSET


class Queues(Written, frozen=True, kw_only=True):
    """Jobs handed out and not answered, and since the start those that came and were refused."""

    final: int
    interim: int
    max_final: int
    total_requests: int
    rejected_requests: int


class Worker(Written, frozen=True, kw_only=True):
    """What decodes for one role; `avg_ms` from the call to the answer, 0 before the first."""

    model: str
    engine: str
    device: str
    compute_type: str
    avg_ms: float


class Backpressure(Written, frozen=True, kw_only=True):
    """How far the service gives way now (`rung` of its ladder): least time between two interims of a
    session, longest audio of one; what a final that came now would take."""

    level: str
    rung: str
    estimated_ms: float
    interim_paused: bool
    cooldown_ms: int
    tail_s: float


class StatusConfig(RootConfig, frozen=True, kw_only=True):
    partial_interval_ms: int
    max_partial_window_s: float
    max_sessions: int
    max_queue_depth: int


class OperatorStatus(Written, frozen=True, kw_only=True):
    """Queues, workers and backpressure of this process, and the settings behind them."""

    status: Literal["ready", "not_ready"]
    accepting_requests: bool
    connections: int
    queues: Queues
    workers: dict[str, Worker]
    backpressure: Backpressure
    config: StatusConfig


def root_body(status: ServiceStatus, info: ServiceInfo) -> Root:
    """`GET /`: service, status and config."""
    return Root(
        config=RootConfig(**_root_config(status, info)), version=info.version, endpoints=info.endpoints
    )


def _root_config(status: ServiceStatus, info: ServiceInfo) -> dict[str, Any]:
    model = _final_model(status)
    return {
        "model": model.name if model else None,
        "device": model.device if model else None,
        "compute_type": model.compute_type if model else None,
        "cache_enabled": info.cache_type is not None,
        "cache_type": info.cache_type,
        "language": info.language,
        "max_audio_length": info.max_audio_length_s,
    }


def operator_status_body(status: ServiceStatus, info: ServiceInfo) -> OperatorStatus:
    """`GET /status`."""
    queue, load = status.queue, status.interims
    return OperatorStatus(
        status="ready" if status.ready else "not_ready",
        accepting_requests=status.accepting,
        connections=status.active_sessions,
        queues=Queues(
            final=queue.depth_final,
            interim=queue.depth_interim,
            max_final=status.max_queue_depth,
            total_requests=queue.total_requests,
            rejected_requests=queue.rejected_requests,
        ),
        workers={
            model.role: Worker(
                model=model.name,
                engine=model.engine,
                device=model.device,
                compute_type=model.compute_type,
                avg_ms=round(queue.avg_partial_ms if model.role == "interim" else queue.avg_final_ms, 1),
            )
            for model in status.models
        },
        backpressure=Backpressure(
            level=load.level,
            rung=load.rung.name.lower(),
            estimated_ms=round(load.estimated_ms, 1),
            interim_paused=load.paused,
            cooldown_ms=round(info.partial_interval_ms * load.slowdown),
            tail_s=round(info.max_partial_window_s * load.window_share, 2),
        ),
        config=StatusConfig(
            **_root_config(status, info),
            partial_interval_ms=info.partial_interval_ms,
            max_partial_window_s=info.max_partial_window_s,
            max_sessions=status.max_sessions,
            max_queue_depth=status.max_queue_depth,
        ),
    )


def health_body(status: ServiceStatus, info: ServiceInfo) -> Health:
    """`GET /health`: alive, with model and cache; always answered with 200."""
    return Health(
        status="healthy" if status.ready else "unhealthy",
        model="loaded" if status.ready else "loading",
        cache="enabled" if info.cache_type else "disabled",
        ready=status.ready,
        version=info.version,
        degraded=status.degraded or UNSET,
    )


def ready_body(status: ServiceStatus) -> Ready:
    """`GET /ready` and `/health/ready`: has every deployment a replica with its models loaded?"""
    return Ready(
        status="ready" if status.ready else "not_ready",
        ready=status.ready,
        degraded=status.degraded or UNSET,
    )


def startup_body(started: bool) -> Startup:
    """`GET /health/startup`: has the service been ready once?"""
    return Startup(status="started" if started else "starting", started=started)


def status_body(status: ServiceStatus) -> Status:
    """`GET /health/status`, with the list of all models behind it."""
    queue, model = status.queue, _final_model(status)
    capacity = status.estimated_max_concurrent
    load = 100 * status.active_sessions / capacity if capacity > 0 else 0.0
    return Status(
        status="ready" if status.ready else "not_ready",
        accepting_requests=status.accepting,
        model=StatusModel(
            model_size=model.name if model else None,
            device=model.device if model else None,
            compute_type=model.compute_type if model else None,
            ready=status.ready,
        ),
        queue=Queue(
            depth=queue.depth_final + queue.depth_interim,
            avg_partial_ms=round(queue.avg_partial_ms, 1),
            avg_final_ms=round(queue.avg_final_ms, 1),
            estimated_server_total_ms=round(status.interims.estimated_ms, 1),
            accepting_requests=status.accepting,
            total_requests=queue.total_requests,
            rejected_requests=queue.rejected_requests,
        ),
        sessions=Sessions(active=status.active_sessions, max=status.max_sessions),
        capacity=Capacity(estimated_max_concurrent=capacity, current_load_percent=round(load, 1)),
        models=tuple(map(loaded_model, status.models)),
        degraded=status.degraded or UNSET,
    )


def loaded_model(model: ModelInfo) -> LoadedModel:
    return LoadedModel(**{name: getattr(model, name) for name in LoadedModel.__struct_fields__})


def _final_model(status: ServiceStatus) -> ModelInfo | None:
    finals = [model for model in status.models if model.role == "final"]
    return next(iter(finals or status.models), None)
