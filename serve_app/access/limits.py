"""What a caller may use: its key's limits, its address's, and what is told where there is no more.

    Limiter                 one of an ingress replica; knows the store, renews leases
      .usage(caller) ->     Usage: the caller's own; costs nothing where no limit is set
          .request()        one request or connection
          .session() ->     Lease: one live session, until it is released
          .audio(seconds)   so much audio

Where the store does not answer, the replica goes on with counts of its own and says so: limits are then held
per replica. A limit never makes a request fail otherwise than by `LimitReached`.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

import structlog

from serve_app.access.caller import NO_LIMITS, Caller, KeyLimits
from serve_app.access.limit_store import (
    DAY_S,
    MINUTE_S,
    RENEWAL_S,
    Charge,
    LimitStore,
    LocalStore,
    Outcome,
    Seat,
    Standing,
    StoreLost,
)
from serve_app.core.errors import LimitReached, PayloadTooLarge

log = structlog.get_logger(__name__)

RETRY_STORE_S: Final = 5.0
"""How long a store that did not answer is left alone."""
SESSION_RETRY_S: Final = 5
"""When to ask again for a session; the other sessions end when they end."""
MIN_RETRY_S: Final = 1

_WINDOWS: Final = ((MINUTE_S, "per_minute", "a minute"), (DAY_S, "per_day", "a day"))

T = TypeVar("T")


class Limiter:
    """Limits of all callers, counted in `store`. `of_address` holds for every address, `of_key` for keys that
    have no limit of their own."""

    def __init__(
        self,
        store: LimitStore | None = None,
        *,
        of_address: KeyLimits = NO_LIMITS,
        of_key: KeyLimits = NO_LIMITS,
        on_refused: Callable[[str], None] = lambda what: None,
    ) -> None:
        """`on_refused` hears what had no room: "session", "request" or "audio"."""
        self._own = LocalStore()
        self._store = self._own if store is None else store
        self._lost_until_s = -math.inf
        self._of_address = of_address
        self._of_key = of_key
        self.on_refused = on_refused
        self._leases: dict[str, tuple[str, ...]] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def usage(self, caller: Caller) -> Usage:
        subjects = []
        if caller.key_id:
            subjects.append((f"key:{caller.key_id}", "this key", _merged(caller.limits, self._of_key)))
        if caller.address:
            subjects.append((f"address:{caller.address}", "this address", self._of_address))
        return Usage(self, [subject for subject in subjects if subject[2] != NO_LIMITS])

    @property
    def limits_audio_of_addresses(self) -> bool:
        return bool(_charges("", self._of_address, "audio"))

    async def take(self, charges: Sequence[Charge]) -> Outcome:
        return await self._asked(lambda store: store.take(charges))

    async def acquire(self, seats: Sequence[Seat]) -> str | Seat:
        """The lease, or the seat that is not free."""
        lease = secrets.token_hex(8)
        full = await self._asked(lambda store: store.acquire(lease, seats))
        if full is not None:
            return full
        self._leases[lease] = tuple(seat.name for seat in seats)
        if self._renewing is None or self._renewing.done():
            self._renewing = self._start(self._renew())
        return lease

    def release(self, lease: str) -> None:
        names = self._leases.pop(lease, None)
        if names is not None:
            self._start(self._asked(lambda store: store.release(lease, names)))

    async def settled(self) -> None:
        """Returns once everything that was released is free."""
        while waiting := self._tasks - {self._renewing}:
            await asyncio.wait(waiting)

    async def _asked(self, ask: Callable[[LimitStore], Awaitable[T]]) -> T:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._lost_until_s:
            try:
                return await ask(self._store)
            except StoreLost as lost:
                self._lost_until_s = now_s + RETRY_STORE_S
                log.warning("limits are held by each ingress replica alone: the store is lost", why=str(lost))
        return await ask(self._own)

    async def _renew(self) -> None:
        """As long as there are leases."""
        while self._leases:
            await asyncio.sleep(RENEWAL_S)
            if self._leases:
                await self._asked(self._renew_in)

    async def _renew_in(self, store: LimitStore) -> None:
        await store.renew({lease: list(names) for lease, names in self._leases.items()})

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="limits")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class Lease:
    """One live session; `release` may be called more than once."""

    def __init__(self, limiter: Limiter | None = None, lease: str = "") -> None:
        self._limiter = limiter
        self._lease = lease

    def release(self) -> None:
        if self._limiter is not None:
            self._limiter.release(self._lease)


class Usage:
    """What one caller uses; its methods raise `LimitReached`, and await nothing where no limit is set."""

    def __init__(self, limiter: Limiter, subjects: Sequence[tuple[str, str, KeyLimits]]) -> None:
        """`subjects`: name in the store, as it is called in messages, limits."""
        self._limiter = limiter
        self._called = {name: called for name, called, _ in subjects}
        self._seats = [
            Seat(name, limits.sessions) for name, _, limits in subjects if limits.sessions is not None
        ]
        self._requests = [
            charge for name, _, limits in subjects for charge in _charges(name, limits, "requests")
        ]
        self._audio = [charge for name, _, limits in subjects for charge in _charges(name, limits, "audio")]

    @property
    def limits_requests(self) -> bool:
        return bool(self._requests)

    @property
    def limits_audio(self) -> bool:
        return bool(self._audio)

    async def request(self) -> tuple[Standing, ...]:
        """How its limits stand after this one."""
        if not self._requests:
            return ()
        outcome = await self._limiter.take(self._requests)
        if outcome.refused is not None:
            raise self._reached(outcome.refused, "request")
        return outcome.standings

    async def session(self) -> Lease:
        if not self._seats:
            return Lease()
        held = await self._limiter.acquire(self._seats)
        if isinstance(held, Seat):
            self._limiter.on_refused("session")
            raise LimitReached(
                f"Limit reached: {held.max_sessions} sessions at once for {self._called[held.name]}",
                SESSION_RETRY_S,
            )
        return Lease(self._limiter, held)

    async def audio(self, seconds: float) -> None:
        """Raises `PayloadTooLarge` for more than any window holds: no other try helps."""
        if not self._audio or seconds <= 0:
            return
        cost = math.ceil(seconds)
        least = min(self._audio, key=lambda charge: charge.limit)
        if cost > least.limit:
            self._limiter.on_refused("audio")
            raise PayloadTooLarge(
                f"{seconds:.0f} s of audio at once: {self._called[least.name]} may send {_said(least)}"
            )
        outcome = await self._limiter.take([replace(charge, cost=cost) for charge in self._audio])
        if outcome.refused is not None:
            raise self._reached(outcome.refused, "audio")

    def _reached(self, refused: Standing, what: str) -> LimitReached:
        self._limiter.on_refused(what)
        retry_s = max(MIN_RETRY_S, math.ceil(refused.reset_s))
        called = self._called[refused.charge.name]
        return LimitReached(f"Limit reached: {_said(refused.charge)} for {called}", retry_s)


def _said(charge: Charge) -> str:
    every = next(said for per_s, _, said in _WINDOWS if per_s == charge.per_s)
    if charge.what == "requests":
        return f"{charge.limit} requests {every}"
    return f"{charge.limit / 60:g} minutes of audio {every}"


def _charges(name: str, limits: KeyLimits, what: str) -> list[Charge]:
    charges = []
    for per_s, suffix, _ in _WINDOWS:
        if what == "requests":
            limit = getattr(limits, f"requests_{suffix}")
        else:
            minutes = getattr(limits, f"audio_minutes_{suffix}")
            limit = None if minutes is None else max(1, round(minutes * 60))
        if limit is not None:
            charges.append(Charge(name, what, limit, per_s))
    return charges


def _merged(own: KeyLimits, default: KeyLimits) -> KeyLimits:
    """A key's own limits, the defaults where it has none."""
    missing = {
        field.name: getattr(default, field.name) for field in fields(own) if getattr(own, field.name) is None
    }
    return replace(own, **missing)
