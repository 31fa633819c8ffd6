"""Simulated time and recognisers: the real scheduler and windows, with decode times in place of the model."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any, TypeAlias

from serve_app.asr.scheduler import Batch, Scheduler, SchedulerLimits
from serve_app.asr.windows import Window, WindowPolicy, plan_window
from serve_app.capacity.meter import SpeedMeter, demand_s
from serve_app.capacity.policy import Decision, Demand, PolicyState, ReplicaFigures, ScalingRules, decide
from serve_app.capacity.throughput import DecodeCost
from serve_app.core.errors import QueueFull
from serve_app.core.jobs import Role
from serve_app.core.samples import SAMPLE_RATE_HZ


class Clock:
    """Calls functions at their time; what is due at the same moment goes in the order it was asked for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def at(self, when_s: float, call: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._due, (max(when_s, self.now_s), next(self._order), call, arguments))

    def after(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now_s + delay_s, call, *arguments)

    def run(self, until_s: float) -> None:
        """Until nothing is due any more, or until then."""
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, call, arguments = heapq.heappop(self._due)
            call(*arguments)
        self.now_s = max(self.now_s, until_s)


POLICY_PERIOD_S = 1.0
Slowness: TypeAlias = Callable[[Role, float], float]
"""A factor for a role's decode that begins then."""


@dataclass(slots=True, eq=False)
class Job:
    """One decode on its way. `answer` is called when it is done; `failed`: refused by a full queue."""

    role: Role
    audio_s: float
    answer: Callable[[Job], None]
    enqueued_s: float = 0.0
    wait_s: float = 0.0
    busy_s: float = 0.0
    batch_size: int = 1
    failed: bool = False
    fresh_s: float | None = None


@dataclass(frozen=True, slots=True)
class RecogniserShape:
    """One deployment's replicas: workers and batches, windows, what decodes cost by role, RPC both ways.

    `slowness`: how much longer than their cost decodes take at a time, where that is known; else it is drawn
    from the cost's spread."""

    limits: SchedulerLimits
    costs: Mapping[Role, DecodeCost]
    windows: Mapping[Role, WindowPolicy]
    rpc_s: float = 0.003
    slowness: Slowness | None = None


@dataclass(frozen=True, slots=True)
class ScalingSetup:
    """Bounds and delays of a deployment that scales; `push_s`: how often replicas report."""

    lowest: int = 1
    highest: int = 1
    startup_s: float = 20.0
    push_s: float = 2.0
    rules: ScalingRules = field(default_factory=ScalingRules)


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    at_s: float
    replicas_from: int
    replicas_to: int
    reason: str


class Replica:
    """One recogniser with its workers."""

    def __init__(self, clock: Clock, shape: RecogniserShape, dice: random.Random) -> None:
        self.num_calls = 0
        self._clock = clock
        self._shape = shape
        self._dice = dice
        self._scheduler: Scheduler[Job] = Scheduler(shape.limits)
        self._waiting_s = 0.0
        self._recent: deque[float] = deque(maxlen=5)
        self._meter = SpeedMeter(
            shape.limits.num_workers,
            shape.limits.max_batch.get(Role.FINAL if Role.FINAL in shape.costs else Role.INTERIM, 1),
        )

    @property
    def waiting_audio_s(self) -> float:
        return self._waiting_s

    def add(self, jobs: Sequence[Job]) -> None:
        now_s = self._clock.now_s
        for job in jobs:
            job.enqueued_s = now_s
            try:
                self._scheduler.add(job.role, self._key(job), job)
            except QueueFull:
                job.failed = True
                job.answer(job)
                continue
            self._waiting_s += job.audio_s
            self._meter.arrived(demand_s(job.audio_s, job.fresh_s), now_s)
        self._start()

    def figures(self) -> ReplicaFigures:
        """What the replica would report now; what waits as a mean of the last reports."""
        measured = self._meter.figures(self._clock.now_s)
        self._recent.append(self._waiting_s)
        waiting_s = sum(self._recent) / len(self._recent)
        return ReplicaFigures(waiting_s, 0.0, measured.arriving, measured.capacity)

    def _key(self, job: Job) -> Window:
        return _window(round(job.audio_s * SAMPLE_RATE_HZ), self._shape.windows[job.role])

    def _start(self) -> None:
        while (batch := self._scheduler.next_batch()) is not None:
            now_s = self._clock.now_s
            cost = self._shape.costs[batch.role]
            lengths = [job.audio_s for job in batch.payloads]
            busy_s = cost.mean_s(lengths) * self._slowness(batch.role, cost)
            for job in batch.payloads:
                job.wait_s = now_s - job.enqueued_s
                job.busy_s = busy_s
                job.batch_size = len(lengths)
            self._waiting_s -= sum(lengths)
            self._clock.after(busy_s, self._finished, batch, busy_s)

    def _slowness(self, role: Role, cost: DecodeCost) -> float:
        if self._shape.slowness is not None:
            return self._shape.slowness(role, self._clock.now_s)
        return cost.spread[self._dice.randrange(len(cost.spread))]

    def _finished(self, batch: Batch[Job], busy_s: float) -> None:
        self._scheduler.done(batch)
        audio_s = sum(job.audio_s for job in batch.payloads)
        self._meter.decoded(len(batch.payloads), audio_s, busy_s, self._clock.now_s, live=True)
        for job in batch.payloads:
            job.answer(job)
        self._start()


class Fleet:
    """All replicas of one deployment: calls go to the less busy of two, the policy says how many there be."""

    def __init__(
        self, clock: Clock, shape: RecogniserShape, dice: random.Random, scaling: ScalingSetup
    ) -> None:
        self._clock = clock
        self._shape = shape
        self._dice = dice
        self._scaling = scaling
        self._state = PolicyState()
        self._wanted = self._scaling.lowest
        self._reported: dict[Replica, ReplicaFigures] = {}
        self._replicas = [Replica(clock, shape, dice) for _ in range(self._wanted)]
        self.events: list[ScaleEvent] = []
        if self._scaling.highest > self._scaling.lowest:
            clock.after(self._scaling.push_s, self._report)
            clock.after(POLICY_PERIOD_S, self._decide)

    @property
    def num_replicas(self) -> int:
        return len(self._replicas)

    @property
    def num_flaps(self) -> int:
        return self._state.num_flaps

    @property
    def waiting_audio_s(self) -> float:
        return sum(replica.waiting_audio_s for replica in self._replicas)

    def call(self, jobs: Sequence[Job], answered: Callable[[Job], None]) -> None:
        """One call with its jobs: they stay together on one replica; each is answered as it is done."""
        replica = self._least_busy()
        replica.num_calls += 1
        left = len(jobs)
        half_s = self._shape.rpc_s / 2

        def done(job: Job) -> None:
            nonlocal left
            left -= 1
            if not left:
                replica.num_calls -= 1
            self._clock.after(half_s, answered, job)

        for job in jobs:
            job.answer = done
        self._clock.after(half_s, replica.add, jobs)

    def _least_busy(self) -> Replica:
        if len(self._replicas) == 1:
            return self._replicas[0]
        first, second = self._dice.sample(self._replicas, 2)
        return first if first.num_calls <= second.num_calls else second

    # -- scaling ---------------------------------------------------------------------------------

    def _report(self) -> None:
        self._reported = {replica: replica.figures() for replica in self._replicas}
        self._clock.after(self._scaling.push_s, self._report)

    def _decide(self) -> None:
        demand = Demand(
            self._clock.now_s,
            len(self._replicas),
            self._wanted,
            self._scaling.lowest,
            self._scaling.highest,
            tuple(self._reported[replica] for replica in self._replicas if replica in self._reported),
        )
        decision = decide(demand, self._state, self._scaling.rules)
        self._state = decision.state
        if decision.changes:
            self._change(decision)
        self._clock.after(POLICY_PERIOD_S, self._decide)

    def _change(self, decision: Decision) -> None:
        self.events.append(
            ScaleEvent(self._clock.now_s, self._wanted, decision.num_replicas, decision.reason.value)
        )
        for _ in range(self._wanted, decision.num_replicas):
            self._clock.after(self._scaling.startup_s, self._started)
        self._wanted = decision.num_replicas
        # The least busy goes: it takes no more calls and finishes what it has.
        while len(self._replicas) > self._wanted:
            self._replicas.remove(min(self._replicas, key=lambda replica: replica.num_calls))

    def _started(self) -> None:
        if len(self._replicas) < self._wanted:
            self._replicas.append(Replica(self._clock, self._shape, self._dice))


@lru_cache(maxsize=65_536)
def _window(num_samples: int, policy: WindowPolicy) -> Window:
    return plan_window(num_samples, "en", policy)
