"""The recogniser behind every ASR deployment: which roles it serves is a matter of its arguments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from deployments.gpu_share import assigned_gpu_fraction, publish_own_gpu_metrics
from deployments.sealing import seal_calls
from serve_app.assembly.load_time import load_within
from serve_app.assembly.process import set_up_process
from serve_app.assembly.recognisers import load_recogniser
from serve_app.assembly.service import traces_of
from serve_app.core.jobs import DecodeJob, DecodeResult, ModelInfo, Role
from serve_app.service.signs_of_life import with_beats
from serve_app.settings import Settings
from serve_app.telemetry.traces import traced


class Recogniser:
    """Loads and warms up its models, then decodes; hosts one role, or all of them where they share cores."""

    roles: tuple[Role, ...] = (Role.FINAL, Role.INTERIM, Role.RECORDING)
    shares_cores = True

    def __init__(self, settings: dict[str, Any]) -> None:
        known = Settings.from_dict(settings)
        set_up_process(known)
        if known.privacy == "strict":
            seal_calls(self)
        gpu_fraction = assigned_gpu_fraction()
        self._recogniser = load_within(
            known.model_load_timeout_s,
            ", ".join(dict.fromkeys(map(known.model_name, self.roles))),
            lambda: load_recogniser(
                known, self.roles, shares_cores=self.shares_cores, gpu_fraction=gpu_fraction
            ),
        )
        publish_own_gpu_metrics(known)
        self._traces = traces_of(known, "recogniser")

    async def decode(self, jobs: list[DecodeJob]) -> AsyncIterator[DecodeResult | None]:
        """Each job's result as soon as it is there; None as a sign of life meanwhile."""
        async for result in with_beats(traced(self._traces, jobs, self._recogniser.decode(jobs))):
            yield result

    async def describe(self) -> tuple[ModelInfo, ...]:
        """The models, which are loaded and warm. Raises `ReplicaUnhealthy`."""
        self._recogniser.require_healthy()
        return self._recogniser.models()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaling policy goes by: seconds of audio that wait for a worker, how much comes in,
        and how much this replica can decode."""
        stats = self._recogniser.stats()
        return {
            "waiting_audio_s": max(0.0, stats.waiting_audio_s - stats.waiting_recording_audio_s),
            "waiting_recording_audio_s": stats.waiting_recording_audio_s,
            "arriving_audio_s_per_s": stats.arriving_audio_s_per_s,
            "capacity_audio_s_per_s": stats.capacity_audio_s_per_s,
        }

    async def check_health(self) -> None:
        """Serve replaces the replica when this has raised three times in a row."""
        self._recogniser.check()
