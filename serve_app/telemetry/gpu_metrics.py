"""A replica's cards as metrics: asked for every few seconds, in a thread of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from serve_app.capacity.machine import Gpu, read_gpus, visible_gpus
from serve_app.telemetry import families
from serve_app.telemetry.metrics import InstrumentFactory

INTERVAL_S = 10.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReplicaOnCard:
    """Who holds the memory: names for the labels, and the share of a card that it was given, where it was."""

    deployment: str
    replica: str
    gpu_fraction: float | None = None


class GpuRecorder:
    """The families of the cards, and of one replica on them, on the instruments of a factory."""

    def __init__(self, factory: InstrumentFactory, replica: ReplicaOnCard, *, pid: int | None = None) -> None:
        self._replica = replica
        self._is_over = False
        self._pid = os.getpid() if pid is None else pid
        self._memory_used = factory.instrument(families.GPU_MEMORY_USED)
        self._memory_total = factory.instrument(families.GPU_MEMORY_TOTAL)
        self._utilisation = factory.instrument(families.GPU_UTILISATION)
        self._temperature = factory.instrument(families.GPU_TEMPERATURE)
        self._power = factory.instrument(families.GPU_POWER)
        self._power_limit = factory.instrument(families.GPU_POWER_LIMIT)
        self._replica_memory = factory.instrument(families.REPLICA_GPU_MEMORY)
        self._replica_share = factory.instrument(families.REPLICA_GPU_SHARE)

    def record(self, gpus: Sequence[Gpu]) -> None:
        """Set every gauge that has a value; what a card does not report stays unset."""
        for gpu in gpus:
            card = {"gpu_id": str(gpu.index), "gpu_uuid": gpu.uuid}
            named = {**card, "gpu_name": gpu.name}
            self._memory_used.record(gpu.memory_used_bytes, named)
            self._memory_total.record(gpu.memory_total_bytes, named)
            for instrument, value in (
                (self._utilisation, gpu.utilisation),
                (self._temperature, gpu.temperature_celsius),
                (self._power, gpu.power_watts),
                (self._power_limit, gpu.power_limit_watts),
            ):
                if value is not None:
                    instrument.record(value, named)
            own = {
                **card,
                "deployment_name": self._replica.deployment,
                "replica_id": self._replica.replica,
            }
            held = gpu.memory_of(self._pid)
            share = (self._replica.gpu_fraction or 0.0) * gpu.memory_total_bytes
            if held is not None:
                self._replica_memory.record(held, own)
            if share:
                self._replica_share.record(share, own)
                self._compare(held or 0, share)

    def _compare(self, held_bytes: int, share_bytes: float) -> None:
        """Say it once whenever the replica goes over its share: what others on the card may lack."""
        is_over = held_bytes > share_bytes
        if is_over and not self._is_over:
            _log.warning(
                "a replica holds more GPU memory than its share",
                deployment=self._replica.deployment,
                held_mb=round(held_bytes / 1e6),
                share_mb=round(share_bytes / 1e6),
            )
        self._is_over = is_over


def publish_gpu_metrics(
    recorder: GpuRecorder,
    interval_s: float = INTERVAL_S,
    read: Callable[[], Sequence[Gpu]] = lambda: visible_gpus(read_gpus()),
) -> Callable[[], None]:
    """Record this process's cards now and every `interval_s`; the call that is returned ends it.

    Where there is no card, or no way to ask, nothing is started.
    """
    first = read()
    stop = threading.Event()
    if not first:
        return stop.set
    recorder.record(first)

    def repeat() -> None:
        while not stop.wait(interval_s):
            try:
                recorder.record(read())
            except Exception as error:  # a thread's outermost shell: figures may fail, the replica goes on
                _log.warning("the GPU's figures could not be recorded", error=type(error).__name__)

    thread = threading.Thread(target=repeat, name="gpu-metrics", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(timeout=interval_s)

    return end
