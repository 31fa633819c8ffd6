"""Work on threads that should have ended long ago: how a model that hangs is noticed.

A thread inside a model cannot be asked how far it is, and cannot be stopped. What begins is noted with the
longest that it may take; `look`, called every few seconds, says what is over that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

MAX_STEP_S = 10.0
"""The most that one look adds to an age."""


@dataclass(slots=True)
class _Work:
    name: str
    limit_s: float
    age_s: float
    """At the last look; below 0 by how long after that it began."""


class WorkWatch:
    """Notes work that runs and tells what is overdue. Thread-safe.

    Ages grow by the time between looks, at most `MAX_STEP_S` each: while a machine is so busy, or a process
    so long stopped, that nothing could look either, the work is not to blame.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._work: dict[int, _Work] = {}
        self._next = 0
        self._looked_s = clock()

    def begin(self, name: str, limit_s: float) -> int:
        """`name` is what an overdue one is called; returns the key to end it with."""
        with self._lock:
            self._next += 1
            self._work[self._next] = _Work(name, limit_s, self._looked_s - self._clock())
            return self._next

    def progressed(self, key: int) -> None:
        """There was a sign of life: the limit counts from now on."""
        with self._lock:
            if (work := self._work.get(key)) is not None:
                work.age_s = self._looked_s - self._clock()

    def end(self, key: int) -> None:
        """It has ended."""
        with self._lock:
            self._work.pop(key, None)

    @contextmanager
    def work(self, name: str, limit_s: float) -> Iterator[int]:
        """`begin` and `end` around a block, which gets the key."""
        key = self.begin(name, limit_s)
        try:
            yield key
        finally:
            self.end(key)

    def look(self) -> str:
        """What is overdue, in words; "" where nothing is."""
        with self._lock:
            now_s = self._clock()
            step_s, self._looked_s = now_s - self._looked_s, now_s
            missed_s = max(0.0, step_s - MAX_STEP_S)
            overdue = ""
            for work in self._work.values():
                work.age_s = max(0.0, work.age_s + step_s - missed_s)
                if work.age_s > work.limit_s:
                    overdue = f"{work.name} has taken over {work.limit_s:.0f} s"
            return overdue
