"""The same work asked for several times at once is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("num_waiting", "task")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.num_waiting = 0


class Flights(Generic[T]):
    """Work under way, by key. It goes on while one of those that wait for it is still there."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def join(self, key: str, begin: Callable[[], asyncio.Task[T]]) -> T:
        """The result of the work under `key`, which `begin` starts where none is under way."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(begin())
            flight.task.add_done_callback(lambda _: self._over(key, flight))
        flight.num_waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.num_waiting -= 1
            if flight.num_waiting == 0 and not flight.task.done():
                self._over(key, flight)  # at once: who comes now must not join what is being cancelled
                flight.task.cancel()

    def _over(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # heard: those that waited have it too, or have gone
