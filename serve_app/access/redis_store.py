"""Limits counted in Redis, for ingress replicas on several clusters or where Redis is there anyway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from serve_app.access.limit_store import LEASE_S, Charge, Outcome, Seat, Standing, StoreLost, standing

TIMEOUT_S: Final = 2.0
PREFIX: Final = "sotto:limits"

_ACQUIRE: Final = """
local now, lease_s = tonumber(ARGV[2]), tonumber(ARGV[3])
for i, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    if not redis.call('ZSCORE', key, ARGV[1]) and redis.call('ZCARD', key) >= tonumber(ARGV[3 + i]) then
        return i
    end
end
for i, key in ipairs(KEYS) do
    redis.call('ZADD', key, now + lease_s, ARGV[1])
    redis.call('EXPIRE', key, math.ceil(lease_s) + 1)
end
return 0
"""
"""Takes the lease ARGV[1] in every key, or in none; the first key that is full, counted from 1."""


class RedisStore:
    """A `LimitStore`. Charges on several limits are tested first, then taken one after another: where two
    replicas meet in between, one may be refused that had room, none is let in that had not."""

    def __init__(self, url: str) -> None:
        """Raises `ValueError` for an address that is none of Redis's."""
        timeouts: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
        self._redis: Redis = Redis.from_url(url, **timeouts)
        storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix=PREFIX, **timeouts)
        self._storage = storage
        self._windows = SlidingWindowCounterRateLimiter(storage)
        self._acquire = self._redis.register_script(_ACQUIRE)

    async def take(self, charges: Sequence[Charge]) -> Outcome:
        async with _answering():
            if len(charges) > 1:
                for charge in charges:
                    if not await self._windows.test(charge.item, *charge.identifiers, cost=charge.cost):
                        return Outcome(refused=await self._standing(charge))
            for charge in charges:
                if not await self._windows.hit(charge.item, *charge.identifiers, cost=charge.cost):
                    return Outcome(refused=await self._standing(charge))
            return Outcome(standings=tuple([await self._standing(charge) for charge in charges]))

    async def acquire(self, lease: str, seats: Sequence[Seat]) -> Seat | None:
        async with _answering():
            full = await self._acquire(
                keys=[_key(seat.name) for seat in seats],
                args=[lease, time.time(), LEASE_S, *(seat.max_sessions for seat in seats)],
            )
            return seats[full - 1] if full else None

    async def release(self, lease: str, names: Collection[str]) -> None:
        async with _answering(), self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zrem(_key(name), lease)
            await pipeline.execute()

    async def renew(self, leases: Mapping[str, Sequence[str]]) -> None:
        until_s = time.time() + LEASE_S
        async with _answering(), self._redis.pipeline(transaction=False) as pipeline:
            for lease, names in leases.items():
                for name in names:
                    pipeline.zadd(_key(name), {lease: until_s})
                    pipeline.expire(_key(name), round(LEASE_S) + 1)
            await pipeline.execute()

    async def close(self) -> None:
        """Close its connections."""
        await self._redis.aclose()
        await self._storage.bridge.storage.aclose()  # type: ignore[attr-defined]

    async def _standing(self, charge: Charge) -> Standing:
        stats = await self._windows.get_window_stats(charge.item, *charge.identifiers)
        return standing(charge, stats.remaining, stats.reset_time)


def _key(name: str) -> str:
    return f"{PREFIX}:sessions:{name}"


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Within `TIMEOUT_S`, which the client's own retries would exceed."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreLost(type(error).__name__) from error
