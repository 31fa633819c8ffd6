"""The bodies of `GET /` and of the probes, from one snapshot of the service."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.asr.jobs import ModelInfo
from serve_app.service import QueueStatus, ServiceStatus


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """What does not change while the service runs. `language` "auto" means: detected."""

    version: str
    language: str
    max_audio_length_s: float
    cache_type: str | None = None
    endpoints: tuple[str, ...] = ()


def root_body(status: ServiceStatus, info: ServiceInfo) -> dict[str, object]:
    """`GET /`: service, status and config."""
    model = _final_model(status)
    return {
        "service": "sotto",
        "status": "online",
        "config": {
            "model": model.name if model else None,
            "device": model.device if model else None,
            "compute_type": model.compute_type if model else None,
            "cache_enabled": info.cache_type is not None,
            "cache_type": info.cache_type,
            "language": info.language,
            "max_audio_length": info.max_audio_length_s,
        },
        "version": info.version,
        "endpoints": list(info.endpoints),
    }


def health_body(status: ServiceStatus, info: ServiceInfo) -> dict[str, object]:
    """`GET /health`: alive, with model and cache; always answered with 200."""
    return {
        "status": "healthy" if status.ready else "unhealthy",
        "model": "loaded" if status.ready else "loading",
        "cache": "enabled" if info.cache_type else "disabled",
        "ready": status.ready,
        "version": info.version,
    }


def ready_body(status: ServiceStatus) -> dict[str, object]:
    """`GET /ready` and `/health/ready`: are the models loaded?"""
    return {"status": "ready" if status.ready else "not_ready", "ready": status.ready}


def live_body() -> dict[str, object]:
    return {"status": "alive"}


def startup_body(started: bool) -> dict[str, object]:
    """`GET /health/startup`: has the service been ready once?"""
    return {"status": "started" if started else "starting", "started": started}


def status_body(status: ServiceStatus) -> dict[str, object]:
    """`GET /health/status`, with the list of all models behind it."""
    queue = status.queue
    capacity = status.estimated_max_concurrent
    load = 100 * status.active_sessions / capacity if capacity > 0 else 0.0
    return {
        "status": "ready" if status.ready else "not_ready",
        "accepting_requests": status.accepting,
        "model": _model(_final_model(status), status.ready),
        "queue": {
            "depth": queue.depth_final + queue.depth_interim,
            "avg_partial_ms": round(queue.avg_partial_ms, 1),
            "avg_final_ms": round(queue.avg_final_ms, 1),
            "estimated_server_total_ms": round(estimated_server_total_ms(queue), 1),
            "accepting_requests": status.accepting,
            "total_requests": queue.total_requests,
            "rejected_requests": queue.rejected_requests,
        },
        "sessions": {"active": status.active_sessions, "max": status.max_sessions},
        "capacity": {"estimated_max_concurrent": capacity, "current_load_percent": round(load, 1)},
        "models": [
            {
                "name": model.name,
                "role": model.role,
                "engine": model.engine,
                "device": model.device,
                "compute_type": model.compute_type,
                "multilingual": model.multilingual,
            }
            for model in status.models
        ],
    }


def estimated_server_total_ms(queue: QueueStatus) -> float:
    """How long the work that waits will take, one job after the other: depth times the mean cost of each."""
    return queue.depth_final * queue.avg_final_ms + queue.depth_interim * queue.avg_partial_ms


def _final_model(status: ServiceStatus) -> ModelInfo | None:
    finals = [model for model in status.models if model.role == "final"]
    return next(iter(finals or status.models), None)


def _model(model: ModelInfo | None, ready: bool) -> dict[str, object]:
    return {
        "model_size": model.name if model else None,
        "device": model.device if model else None,
        "compute_type": model.compute_type if model else None,
        "ready": ready,
    }
