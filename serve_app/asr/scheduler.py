"""Whose turn it is on a recogniser's workers: finals, then interims, then recordings.

Pure: no clock, no threads. Finals go by age and may take every worker. Interims keep to
`max_interim_workers`, so that one decode that nothing can interrupt never holds up all finals. Recordings
take what is left, on at most `max_recording_workers`; interims that go on without a pause let one of them
through after `max_interims_in_a_row`, so that they do not starve where there is a single worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serve_app.core.errors import QueueFull
from serve_app.core.jobs import Role

Payload = TypeVar("Payload")


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """How many workers there are, how many each role may hold, how large batches and queues may be."""

    num_workers: int = 2
    max_interim_workers: int = 1
    max_recording_workers: int = 1
    max_batch: Mapping[Role, int] = field(default_factory=dict)
    max_queue: int = 512
    max_interims_in_a_row: int = 8

    def __post_init__(self) -> None:
        counts = (self.num_workers, self.max_interim_workers, self.max_recording_workers, self.max_queue)
        if min(counts) < 1 or any(size < 1 for size in self.max_batch.values()):
            raise ValueError("workers, batch sizes and the queue length must be at least 1")

    def max_workers(self, role: Role) -> int:
        """Workers that jobs of this role may hold at once."""
        asked = {Role.INTERIM: self.max_interim_workers, Role.RECORDING: self.max_recording_workers}
        return min(self.num_workers, asked.get(role, self.num_workers))


@dataclass(frozen=True, slots=True)
class Batch(Generic[Payload]):
    """Jobs for one worker, oldest first; give it back with `Scheduler.done`."""

    role: Role
    payloads: tuple[Payload, ...]


class Scheduler(Generic[Payload]):
    """The priority queue of a recogniser; payloads are opaque to it and compared by identity."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._waiting: dict[Role, deque[tuple[Hashable, Payload]]] = {role: deque() for role in Role}
        self._running: dict[Role, int] = dict.fromkeys(Role, 0)
        self._interims_in_a_row = 0

    def add(self, role: Role, key: Hashable, payload: Payload) -> None:
        """Queue a job; jobs of one role with equal keys may share a batch. Raises `QueueFull`."""
        queue = self._waiting[role]
        if len(queue) >= self._limits.max_queue:
            raise QueueFull(f"{len(queue)} {role.value} jobs are waiting already")
        queue.append((key, payload))

    def remove(self, role: Role, payload: Payload) -> bool:
        """Take a job back that has not begun; whether it was still waiting."""
        queue = self._waiting[role]
        for index, (_, waiting) in enumerate(queue):
            if waiting is payload:
                del queue[index]
                return True
        return False

    def next_batch(self, *, nobody_live: bool = False) -> Batch[Payload] | None:
        """The next worker's jobs, or None while every worker is busy or nothing may run.

        `nobody_live`: no live work has come for a while, so that recordings may take every worker.
        """
        if sum(self._running.values()) >= self._limits.num_workers:
            return None
        for role in self._order():
            may_run = self._running[role] < self._limits.max_workers(role)
            if self._waiting[role] and (may_run or (nobody_live and role is Role.RECORDING)):
                return self._take(role)
        return None

    def done(self, batch: Batch[Payload]) -> None:
        """A worker has finished this batch and is free again."""
        self._running[batch.role] -= 1

    def drain(self) -> list[Payload]:
        """Empty the queues: all that was waiting."""
        waiting = [payload for queue in self._waiting.values() for _, payload in queue]
        for queue in self._waiting.values():
            queue.clear()
        return waiting

    def waiting(self, role: Role) -> tuple[Payload, ...]:
        return tuple(payload for _, payload in self._waiting[role])

    def num_waiting(self, role: Role) -> int:
        return len(self._waiting[role])

    def num_running(self, role: Role) -> int:
        """Workers that hold jobs of this role."""
        return self._running[role]

    def _order(self) -> tuple[Role, ...]:
        if self._interims_in_a_row >= self._limits.max_interims_in_a_row:
            return (Role.FINAL, Role.RECORDING, Role.INTERIM)
        return (Role.FINAL, Role.INTERIM, Role.RECORDING)

    def _take(self, role: Role) -> Batch[Payload]:
        passes_over = role is Role.INTERIM and bool(self._waiting[Role.RECORDING])
        if role is not Role.FINAL:
            self._interims_in_a_row = self._interims_in_a_row + 1 if passes_over else 0
        self._running[role] += 1
        queue = self._waiting[role]
        max_batch = self._limits.max_batch.get(role, 1)
        key, oldest = queue.popleft()
        taken = [oldest]
        if max_batch > 1:
            left: deque[tuple[Hashable, Payload]] = deque()
            for entry in queue:
                if len(taken) < max_batch and entry[0] == key:
                    taken.append(entry[1])
                else:
                    left.append(entry)
            self._waiting[role] = left
        return Batch(role, tuple(taken))
