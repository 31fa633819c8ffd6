"""A simulated service as the settings and profiles would make it, and what came of a run."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.scoring import Percentiles
from benchmarks.simulation.ingress import Ingress, VoicePool
from benchmarks.simulation.replicas import Clock, Fleet, RecogniserShape, ScaleEvent, ScalingSetup, Slowness
from benchmarks.simulation.sessions import DoorShape, Results
from benchmarks.simulation.talk import Talk
from serve_app.asr.config import RecogniserConfig
from serve_app.assembly.recognisers import FINAL_PAD_S, FINAL_TAIL_S, INTERIM_TAIL_S
from serve_app.assembly.service import GPU_BATCHES_IN_FLIGHT, MAX_CPU_INTERIMS, ladder_limits
from serve_app.capacity.throughput import DecodeCost
from serve_app.core.jobs import Role
from serve_app.service.conductor import ConductorConfig
from serve_app.session.backpressure import InterimBudget
from serve_app.settings import Settings

SAMPLE_PERIOD_S = 5.0
LAST_ANSWERS_S = 5.0


@dataclass(frozen=True, slots=True)
class ServiceShape:
    """What is simulated. `on_gpu`: interims and finals are two deployments and both are batched, as in
    serve_config.yaml; else one deployment serves both roles on `num_workers` cores."""

    costs: Mapping[Role, DecodeCost]
    on_gpu: bool = False
    num_workers: int = 2
    max_batch: int = 8
    sessions_per_ingress: int = 200
    rpc_s: float = 0.003
    slowness: Slowness | None = None
    door: DoorShape = field(default_factory=DoorShape)
    scaling: ScalingSetup = field(default_factory=ScalingSetup)
    interim_scaling: ScalingSetup | None = None
    settings: Settings = field(default_factory=lambda: Settings.from_dict({}))

    def recogniser(self, roles: Sequence[Role]) -> RecogniserShape:
        """Limits and windows from the service's own code."""
        shared = not self.on_gpu
        config = RecogniserConfig(
            models={},
            num_workers=self.num_workers,
            max_interim_workers=max(1, self.num_workers // 2) if shared else self.num_workers,
            max_batch=self.max_batch,
            tails_s={role: INTERIM_TAIL_S if role is Role.INTERIM else FINAL_TAIL_S for role in Role},
            pads_s={Role.FINAL: FINAL_PAD_S, Role.RECORDING: FINAL_PAD_S},
        )
        costs = {role: self.costs[role] for role in roles}
        return RecogniserShape(
            config.limits(on_card=self.on_gpu),
            costs,
            config.windows(on_card=self.on_gpu),
            self.rpc_s,
            self.slowness,
        )

    def conductor(self) -> ConductorConfig:
        """As `serve_app.assembly.service` has it."""
        parallel = self.num_workers * (self.max_batch if self.on_gpu else 1)
        budget = InterimBudget(
            num_workers=parallel,
            max_in_flight=parallel * GPU_BATCHES_IN_FLIGHT if self.on_gpu else MAX_CPU_INTERIMS,
            share=None if self.on_gpu else self.settings.interim_share,
        )
        return ConductorConfig(
            tick_s=self.settings.tick_ms / 1000,
            speculative_finals=self.settings.speculative_finals,
            max_speculative_in_flight=parallel,
            interim_budget=budget,
            max_interim_window_ms=int(self.settings.max_partial_window_s * 1000),
            ladder=ladder_limits(self.settings, parallel),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The service at one moment: sessions, replicas for finals and interims, what waits; `final_p95_ms` of
    the finals since the last one."""

    at_s: float
    sessions: int
    final: int
    interim: int
    waiting_audio_s: float
    final_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """What a run gave."""

    results: Results
    snapshots: tuple[Snapshot, ...]
    final_events: tuple[ScaleEvent, ...]
    interim_events: tuple[ScaleEvent, ...]
    num_flaps: int

    def to_json(self) -> dict[str, Any]:
        results = self.results
        return {
            "final_latency_ms": Percentiles.of(results.final_ms).to_json(),
            "interim_lag_ms": Percentiles.of(results.interim_ms).to_json(),
            "speech_start_ms": Percentiles.of(results.speech_start_ms).to_json(),
            "finals": len(results.final_ms),
            "finals_ahead_of_time": results.num_speculative,
            "refused_jobs": results.num_refused,
            "scale_events": {
                "final": [_event(event) for event in self.final_events],
                "interim": [_event(event) for event in self.interim_events],
            },
            "flaps": self.num_flaps,
            "replicas_over_time": [asdict(moment) for moment in self.snapshots],
        }


class _Service:
    """The parts of one simulated service, put together."""

    def __init__(self, shape: ServiceShape, num_sessions: int, seed: int) -> None:
        dice = random.Random(seed)
        self.clock, self.results = Clock(), Results()
        self.final = Fleet(self.clock, shape.recogniser(tuple(shape.costs)), dice, shape.scaling)
        self.interim = self.final
        if shape.on_gpu:
            scaling = shape.interim_scaling or shape.scaling
            self.interim = Fleet(self.clock, shape.recogniser((Role.INTERIM,)), dice, scaling)
        voice = VoicePool(self.clock, shape.door)
        self.ingresses = [
            Ingress(
                self.clock,
                shape.conductor(),
                shape.door,
                voice=voice,
                final=self.final,
                interim=self.interim,
                results=self.results,
                dice=dice,
            )
            for _ in range(max(1, math.ceil(num_sessions / shape.sessions_per_ingress)))
        ]
        self.snapshots: list[Snapshot] = []
        self.clock.after(SAMPLE_PERIOD_S, self._look, 0)

    def _look(self, num_seen: int) -> None:
        finals = self.results.final_ms[num_seen:]
        self.snapshots.append(
            Snapshot(
                round(self.clock.now_s, 1),
                self.results.num_active,
                self.final.num_replicas,
                self.interim.num_replicas,
                round(self.final.waiting_audio_s, 2),
                Percentiles.of(finals).p95,
            )
        )
        self.clock.after(SAMPLE_PERIOD_S, self._look, len(self.results.final_ms))

    def simulated_run(self) -> SimulatedRun:
        two = self.interim is not self.final
        return SimulatedRun(
            self.results,
            tuple(self.snapshots),
            tuple(self.final.events),
            tuple(self.interim.events) if two else (),
            self.final.num_flaps + (self.interim.num_flaps if two else 0),
        )


def simulate(
    shape: ServiceShape,
    talks: Sequence[Talk],
    begins_s: Sequence[float],
    *,
    seed: int = 0,
    until_s: float = 0.0,
) -> SimulatedRun:
    """Run one session per start, each with its talk (in turn), to `until_s` or the end of the last one."""
    service = _Service(shape, len(begins_s), seed)
    end_s = until_s
    for index, begin_s in enumerate(begins_s):
        talk = talks[index % len(talks)]
        service.ingresses[index % len(service.ingresses)].add(talk, begin_s)
        end_s = max(end_s, begin_s + talk.duration_s + LAST_ANSWERS_S)
    service.clock.run(end_s)
    return service.simulated_run()


def _event(event: ScaleEvent) -> dict[str, Any]:
    return {
        "at_s": round(event.at_s, 1),
        "from": event.replicas_from,
        "to": event.replicas_to,
        "reason": event.reason,
    }
