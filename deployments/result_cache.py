"""The result cache of the whole cluster, in one process: an ingress replica finds what any other kept."""

from __future__ import annotations

import asyncio
from typing import Any

from serve_app.assembly.storage import cache_host_of
from serve_app.cache.ports import CacheStats, Looked
from serve_app.settings import Settings


class ResultCacheHost:
    """One replica. When it dies, uploads are transcribed without a cache until the next one is there."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._host = cache_host_of(Settings.from_dict(settings))
        self._sweeper: asyncio.Task[None] | None = None

    async def look_up(self, key: str) -> Looked:
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._host.keep_sweeping(), name="cache sweeper")
        return await self._host.look_up(key)

    async def keep(self, key: str, value: bytes) -> None:
        await self._host.keep(key, value)

    async def renew(self, key: str) -> None:
        await self._host.renew(key)

    async def release(self, key: str) -> None:
        await self._host.release(key)

    async def clear(self, prefix: str = "") -> int:
        return await self._host.clear(prefix)

    async def stats(self) -> CacheStats:
        return await self._host.stats()
