"""Where results are kept: memory, a folder (`diskcache`) or Redis; bytes by key, each for `ttl_s` seconds."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import diskcache
import redis.asyncio
from diskcache.core import MODE_PICKLE, UNKNOWN
from redis.exceptions import RedisError

from serve_app.cache.ports import CacheLost

REDIS_PREFIX: Final = "sotto:result:"
REDIS_TIMEOUT_S: Final = 1.0
REDIS_RETRY_S: Final = 5.0
"""A lost Redis is not asked again for so long: every upload would wait for its timeout."""
_SCAN_COUNT: Final = 500
_FOLDER_MODE: Final = 0o700
_MIN_DISK_ENTRIES: Final = 16


class Entries(Protocol):
    """Methods raise `CacheLost` where the store does not answer."""

    async def get(self, key: str) -> bytes | None: ...
    async def put(self, key: str, value: bytes) -> None: ...
    async def clear(self, prefix: str = "") -> int:
        """Those whose keys begin so; their number."""

    async def forget_expired(self) -> None: ...
    async def size(self) -> tuple[int | None, int | None]:
        """Number of entries and of bytes, None where it is not known."""

    async def close(self) -> None: ...


class MemoryEntries:
    """In this process; the least recently used go first."""

    def __init__(
        self, *, max_bytes: int, ttl_s: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock_s = clock_s
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._num_bytes = 0

    async def get(self, key: str) -> bytes | None:
        found = self._entries.get(key)
        if found is None:
            return None
        expires_s, value = found
        if expires_s <= self._clock_s():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        if key in self._entries:
            self._drop(key)
        if len(value) > self._max_bytes:
            return
        self._entries[key] = (self._clock_s() + self._ttl_s, value)
        self._num_bytes += len(value)
        while self._num_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def clear(self, prefix: str = "") -> int:
        keys = [key for key in self._entries if key.startswith(prefix)]
        for key in keys:
            self._drop(key)
        return len(keys)

    async def forget_expired(self) -> None:
        now_s = self._clock_s()
        for key in [key for key, (expires_s, _) in self._entries.items() if expires_s <= now_s]:
            self._drop(key)

    async def size(self) -> tuple[int | None, int | None]:
        return len(self._entries), self._num_bytes

    async def close(self) -> None:
        await self.clear()

    def _drop(self, key: str) -> None:
        self._num_bytes -= len(self._entries.pop(key)[1])


class _BytesOnly(diskcache.Disk):  # type: ignore[misc]
    """Keys and values as they are: a pickle, which is a program, is neither written nor read."""

    def put(self, key: Any) -> Any:
        return super().put(_of_type(key, str))

    def get(self, key: Any, raw: Any) -> Any:
        if not raw:
            raise CacheLost("a pickled key in the cache's folder")
        return super().get(key, raw)

    def store(self, value: Any, read: Any, key: Any = UNKNOWN) -> Any:
        return super().store(_of_type(value, bytes), read, key)

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> Any:
        if mode == MODE_PICKLE:
            raise CacheLost("a pickled value in the cache's folder")
        return super().fetch(mode, filename, value, read)


def _of_type(value: Any, expected: type) -> Any:
    if type(value) is not expected:
        raise TypeError(f"expected {expected.__name__}, got {type(value).__name__}")
    return value


class DiskEntries:
    """In a folder that only this user may open; the least recently used go first. IO is done in threads.

    diskcache makes room by tens of entries, so that one may take a share of the folder only.
    """

    def __init__(self, folder: Path, *, max_bytes: int, ttl_s: float) -> None:
        """Raises `CacheLost` where the folder cannot be used."""
        self._ttl_s = ttl_s
        self._max_entry_bytes = max_bytes // _MIN_DISK_ENTRIES
        with _as_lost():
            folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
            self._cache = diskcache.Cache(
                str(folder), disk=_BytesOnly, size_limit=max_bytes, eviction_policy="least-recently-used"
            )

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await asyncio.to_thread(self._call, self._cache.get, key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        if len(value) <= self._max_entry_bytes:
            await asyncio.to_thread(self._call, self._put, key, value)

    def _put(self, key: str, value: bytes) -> None:
        self._cache.set(key, value, self._ttl_s)
        self._cache.cull()  # by itself it removes ten for each that comes, large or small

    async def clear(self, prefix: str = "") -> int:
        return await asyncio.to_thread(self._call, self._clear, prefix)

    def _clear(self, prefix: str) -> int:
        if not prefix:
            return int(self._cache.clear())
        return sum(self._cache.delete(key) for key in list(self._cache) if key.startswith(prefix))

    async def forget_expired(self) -> None:
        await asyncio.to_thread(self._call, self._cache.expire)

    async def size(self) -> tuple[int | None, int | None]:
        return await asyncio.to_thread(lambda: (self._call(len, self._cache), self._call(self._cache.volume)))

    async def close(self) -> None:
        await asyncio.to_thread(self._cache.close)

    @staticmethod
    def _call(work: Callable[..., Any], *args: Any) -> Any:
        with _as_lost():
            return work(*args)


@contextlib.contextmanager
def _as_lost() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise CacheLost(f"the cache's folder: {type(error).__name__}") from error


class RedisEntries:
    """In Redis, under `REDIS_PREFIX`; how much of it, Redis's own `maxmemory` says."""

    def __init__(self, url: str, *, ttl_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Raises `ValueError` for an address that is none."""
        self._redis = redis.asyncio.from_url(
            url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._clock_s = clock_s
        self._lost_until_s = float("-inf")

    async def get(self, key: str) -> bytes | None:
        async with self._asking():
            value = await self._redis.get(REDIS_PREFIX + key)
            return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes) -> None:
        async with self._asking():
            await self._redis.set(REDIS_PREFIX + key, value, px=self._ttl_ms)

    async def clear(self, prefix: str = "") -> int:
        async with self._asking():
            num_deleted = 0
            batch: list[bytes] = []
            async for key in self._redis.scan_iter(match=f"{REDIS_PREFIX}{prefix}*", count=_SCAN_COUNT):
                batch.append(key)
                if len(batch) == _SCAN_COUNT:
                    num_deleted += int(await self._redis.unlink(*batch))
                    batch.clear()
            if batch:
                num_deleted += int(await self._redis.unlink(*batch))
            return num_deleted

    async def forget_expired(self) -> None:
        """Redis does so by itself."""

    async def size(self) -> tuple[int | None, int | None]:
        return None, None

    async def close(self) -> None:
        await self._redis.aclose()

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        if self._clock_s() < self._lost_until_s:
            raise CacheLost("Redis was lost a moment ago")
        try:
            yield
        except (RedisError, OSError) as error:
            self._lost_until_s = self._clock_s() + REDIS_RETRY_S
            raise CacheLost(f"Redis: {type(error).__name__}") from error
