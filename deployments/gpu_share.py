"""The share of a card that Ray gave to this replica, and its figures as metrics."""

from __future__ import annotations

import ray
from ray import serve

from serve_app.capacity.machine import read_gpus, visible_gpus
from serve_app.settings import Settings
from serve_app.telemetry.cluster import RayInstruments
from serve_app.telemetry.gpu_metrics import GpuRecorder, ReplicaOnCard, publish_gpu_metrics


def assigned_gpu_fraction() -> float | None:
    """`num_gpus` of this actor; None outside of Ray, and where it was given no card."""
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return None
    resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
    return resources.get("GPU") or None


def publish_own_gpu_metrics(settings: Settings) -> None:
    """Report this replica's cards for as long as it lives; not where there is none, or metrics are off."""
    if not settings.metrics_enabled:
        return
    fraction = assigned_gpu_fraction()
    if fraction is None or not visible_gpus(read_gpus()):
        return
    context = serve.get_replica_context()
    replica = ReplicaOnCard(context.deployment, context.replica_tag, fraction)
    publish_gpu_metrics(GpuRecorder(RayInstruments(), replica))
