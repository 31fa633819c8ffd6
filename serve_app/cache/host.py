"""The one cache of a cluster: its entries, sealed where there is a storage key, and hits and misses."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from serve_app.access.sealing import Seal, Unreadable
from serve_app.cache.entries import Entries
from serve_app.cache.ports import CLAIM_S, CacheLost, CacheStats, Looked

SWEEP_INTERVAL_S: Final = 60.0
WAIT_S: Final = 1.0
"""Of one call for a result that another process computes: shorter than the deadline of a call."""


class _Claim:
    """A result that some process is computing; `over` once it is kept or given up. `cleared`: the cache was
    cleared meanwhile, so that it is not to be kept."""

    __slots__ = ("cleared", "expires_s", "over")

    def __init__(self, expires_s: float) -> None:
        self.expires_s = expires_s
        self.over = asyncio.Event()
        self.cleared = False


class CacheHost:
    """A `ResultStore`, in a process of its own or in that of its only door."""

    def __init__(
        self,
        entries: Entries,
        seal: Seal | None = None,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock_s = clock_s
        self._entries = entries
        self._seal = seal or Seal(None)
        self._claims: dict[str, _Claim] = {}
        self._hits = self._misses = 0

    async def look_up(self, key: str) -> Looked:
        """An entry of another storage key is a miss. Raises `CacheLost`."""
        until_s = self._clock_s() + WAIT_S
        while True:
            value = await self._found(key)
            if value is not None:
                self._hits += 1
                return Looked(value)
            now_s = self._clock_s()
            claim = self._claims.get(key)
            if claim is None or claim.expires_s <= now_s:
                self._claims[key] = _Claim(now_s + CLAIM_S)
                self._misses += 1
                return Looked()
            if now_s >= until_s:
                return Looked(claimed=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(until_s, claim.expires_s) - now_s):
                    await claim.over.wait()

    async def keep(self, key: str, value: bytes) -> None:
        claim = self._claims.get(key)
        try:
            if claim is None or not claim.cleared:
                await self._entries.put(key, self._seal.seal(value, key))
        finally:
            await self.release(key)

    async def renew(self, key: str) -> None:
        if key in self._claims:
            self._claims[key].expires_s = self._clock_s() + CLAIM_S

    async def release(self, key: str) -> None:
        if key in self._claims:
            self._claims.pop(key).over.set()

    async def clear(self, prefix: str = "") -> int:
        for key, claim in self._claims.items():
            claim.cleared = claim.cleared or key.startswith(prefix)
        return await self._entries.clear(prefix)

    async def stats(self) -> CacheStats:
        num_entries, num_bytes = await self._entries.size()
        return CacheStats(self._hits, self._misses, num_entries, num_bytes)

    async def keep_sweeping(self) -> None:
        """Delete results that have expired, for as long as this task lives: what is not asked for, too."""
        while True:
            with contextlib.suppress(CacheLost):
                await self._entries.forget_expired()
            now_s = self._clock_s()
            for key in [key for key, claim in self._claims.items() if claim.expires_s <= now_s]:
                await self.release(key)
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def _found(self, key: str) -> bytes | None:
        value = await self._entries.get(key)
        try:
            return None if value is None else self._seal.unseal(value, key)
        except Unreadable:
            return None

    async def close(self) -> None:
        await self._entries.close()
