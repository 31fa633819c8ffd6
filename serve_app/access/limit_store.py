"""Where what is used gets counted: requests and audio in sliding windows, sessions as leases.

A charge is of requests or of seconds of audio, against one window of one key or address. The windows are
those of the `limits` library (sliding window counter: two numbers each, never more than the limit in one of
the clock's minutes or days, and no double share where two of them meet).

A lease counts one live session for as long as its ingress replica renews it, so that a replica that dies
gives back what it held after `LEASE_S`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

LEASE_S: Final = 15.0
"""How long a lease holds that is not renewed."""
RENEWAL_S: Final = 4.0

ROUNDED_S: Final = 0.005
"""The library takes the time that is left modulo the window, so that in its first milliseconds nothing is."""

MINUTE_S: Final = 60
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Charge:
    """`cost` units of `what` (requests; seconds of audio) on `name`, which may have `limit` every `per_s`."""

    name: str
    what: str
    limit: int
    per_s: int
    cost: int = 1

    @property
    def item(self) -> RateLimitItem:
        kind = RateLimitItemPerMinute if self.per_s == MINUTE_S else RateLimitItemPerDay
        return kind(self.limit, namespace="sotto")

    @property
    def identifiers(self) -> tuple[str, str]:
        return self.name, self.what


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a charge's limit, and in how many seconds there is more."""

    charge: Charge
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """`refused`: the limit that has no room; then nothing was charged. Else how all of them stand."""

    refused: Standing | None = None
    standings: tuple[Standing, ...] = ()


@dataclass(frozen=True, slots=True)
class Seat:
    """Room for `max_sessions` sessions of `name` at a time."""

    name: str
    max_sessions: int


class StoreLost(Exception):
    """The store does not answer."""


class LimitStore(Protocol):
    """Counts for all ingress replicas. Every method raises `StoreLost` where it cannot."""

    async def take(self, charges: Sequence[Charge]) -> Outcome:
        """Charge all of them, or none."""

    async def acquire(self, lease: str, seats: Sequence[Seat]) -> Seat | None:
        """Take one of each of the seats, or none; the seat that is not free."""

    async def release(self, lease: str, names: Collection[str]) -> None: ...

    async def renew(self, leases: Mapping[str, Sequence[str]]) -> None:
        """Leases and the names they count for; one that was lost is taken again."""


class LocalCounts:
    """The counting itself, in one process. What is called from one thread is all or nothing."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._windows = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._now_s = now_s
        self._leases: dict[str, dict[str, float]] = {}

    def take(self, charges: Sequence[Charge]) -> Outcome:
        for charge in charges:
            if not self._windows.test(charge.item, *charge.identifiers, cost=charge.cost):
                return Outcome(refused=self._standing(charge))
        for charge in charges:
            self._windows.hit(charge.item, *charge.identifiers, cost=charge.cost)
        return Outcome(standings=tuple(map(self._standing, charges)))

    def acquire(self, lease: str, seats: Sequence[Seat]) -> Seat | None:
        now_s = self._now_s()
        for seat in seats:
            held = self._held(seat.name, now_s)
            if lease not in held and len(held) >= seat.max_sessions:
                return seat
        for seat in seats:
            self._leases.setdefault(seat.name, {})[lease] = now_s + LEASE_S
        return None

    def release(self, lease: str, names: Collection[str]) -> None:
        for name in names:
            held = self._leases.get(name)
            if held is not None:
                held.pop(lease, None)
                if not held:
                    del self._leases[name]

    def renew(self, leases: Mapping[str, Sequence[str]]) -> None:
        until_s = self._now_s() + LEASE_S
        for lease, names in leases.items():
            for name in names:
                self._leases.setdefault(name, {})[lease] = until_s

    def _held(self, name: str, now_s: float) -> dict[str, float]:
        held = self._leases.get(name, {})
        for lease in [lease for lease, until_s in held.items() if until_s <= now_s]:
            del held[lease]
        return held

    def _standing(self, charge: Charge) -> Standing:
        stats = self._windows.get_window_stats(charge.item, *charge.identifiers)
        return standing(charge, stats.remaining, stats.reset_time)


class LocalStore:
    """A `LimitStore` of this process alone: for one ingress replica, or while the shared store is lost."""

    def __init__(self, counts: LocalCounts | None = None) -> None:
        self.counts = counts or LocalCounts()

    async def take(self, charges: Sequence[Charge]) -> Outcome:
        return self.counts.take(charges)

    async def acquire(self, lease: str, seats: Sequence[Seat]) -> Seat | None:
        return self.counts.acquire(lease, seats)

    async def release(self, lease: str, names: Collection[str]) -> None:
        self.counts.release(lease, names)

    async def renew(self, leases: Mapping[str, Sequence[str]]) -> None:
        self.counts.renew(leases)


def standing(charge: Charge, remaining: int, reset_at_s: float) -> Standing:
    """`reset_at_s`: Unix time at which the library frees the next unit."""
    reset_s = reset_at_s - time.time()
    if not math.isfinite(reset_s) or (remaining == 0 and reset_s <= ROUNDED_S):
        reset_s = charge.per_s
    return Standing(charge, remaining, min(float(charge.per_s), max(0.0, reset_s)))
