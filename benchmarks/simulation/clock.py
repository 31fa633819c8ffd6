"""Simulated time: what happens next, in order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


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
