"""Time that only tests move: a clock, and an event loop whose timers fire once nothing else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class FakeClock:
    """Call it for the time; `pass_s` moves it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


class _NoWaiting(selectors.DefaultSelector):
    """Where nothing is ready the time to wait has passed at once."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self._clock.pass_s(timeout)
        return ready


def run_in_fake_time(work: Coroutine[Any, Any, Answer], clock: FakeClock | None = None) -> Answer:
    """The result of `work`, which may wait for timers, tasks and futures, but for no thread and no socket."""
    clock = clock or FakeClock()

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return clock()

    with asyncio.Runner(loop_factory=lambda: Loop(_NoWaiting(clock))) as runner:
        return runner.run(work)
