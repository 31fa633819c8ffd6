"""The one cache of a cluster: its entries, sealed where there is a storage key, and hits and misses."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from serve_app.access.sealing import Seal, Unreadable
from serve_app.cache.entries import Entries
from serve_app.cache.ports import CacheLost, CacheStats

SWEEP_INTERVAL_S: Final = 60.0


class CacheHost:
    """A `ResultStore`, in a process of its own or in that of its only door."""

    def __init__(self, entries: Entries, seal: Seal | None = None) -> None:
        self._entries = entries
        self._seal = seal or Seal(None)
        self._hits = self._misses = 0

    async def look_up(self, key: str) -> bytes | None:
        """An entry of another storage key is a miss. Raises `CacheLost`."""
        value = await self._entries.get(key)
        if value is not None:
            try:
                value = self._seal.unseal(value, key)
            except Unreadable:
                value = None
        if value is None:
            self._misses += 1
        else:
            self._hits += 1
        return value

    async def keep(self, key: str, value: bytes) -> None:
        await self._entries.put(key, self._seal.seal(value, key))

    async def clear(self) -> None:
        await self._entries.clear()

    async def stats(self) -> CacheStats:
        num_entries, num_bytes = await self._entries.size()
        return CacheStats(self._hits, self._misses, num_entries, num_bytes)

    async def keep_sweeping(self) -> None:
        """Delete results that have expired, for as long as this task lives: what is not asked for, too."""
        while True:
            with contextlib.suppress(CacheLost):
                await self._entries.forget_expired()
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def close(self) -> None:
        await self._entries.close()
