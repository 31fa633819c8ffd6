"""Results are found again, by those who may: in memory, in a folder, in Redis; without them work goes on."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from serve_app.access.sealing import Seal
from serve_app.cache.entries import (
    REDIS_PREFIX,
    DiskEntries,
    Entries,
    MemoryEntries,
    RedisEntries,
)
from serve_app.cache.host import CacheHost
from serve_app.cache.ports import CLAIM_S, CacheLost, CacheStats
from serve_app.cache.results import ResultCache
from serve_app.launch.cluster import free_ports

MIB = 1024 * 1024


@pytest.fixture(params=["memory", "disk", "redis"])
async def entries(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Entries]:
    made: Entries
    match request.param:
        case "memory":
            made = MemoryEntries(max_bytes=MIB, ttl_s=60)
        case "disk":
            made = DiskEntries(tmp_path / "results", max_bytes=MIB, ttl_s=60)
        case _:
            made = RedisEntries(request.getfixturevalue("redis_url"), ttl_s=60)
            await made.clear()
    yield made
    await made.close()


def computing(value: bytes = b'{"text":"hello"}') -> Any:
    """A computation that counts its calls in `num`."""

    async def compute() -> bytes:
        compute.num += 1  # type: ignore[attr-defined]
        return value

    compute.num = 0  # type: ignore[attr-defined]
    return compute


async def test_the_second_time_it_is_found(entries: Entries) -> None:
    seen: list[bool] = []
    cache = ResultCache(CacheHost(entries), kind="any", on_lookup=seen.append)
    compute = computing()
    key = cache.key("5ha", "a", {"beam_size": 1})
    first = await cache.result(key, compute)
    again = await ResultCache(CacheHost(entries), kind="any", on_lookup=seen.append).result(key, compute)
    assert first.value == again.value == b'{"text":"hello"}'
    assert (compute.num, seen) == (1, [False, True])
    assert first.hit_at is None
    assert first.cached_at is not None
    assert again.cached_at == first.cached_at
    assert again.hit_at is not None
    assert again.hit_at >= again.cached_at


async def test_clearing_forgets_all_results(entries: Entries) -> None:
    cache = ResultCache(CacheHost(entries), kind="any")
    compute = computing()
    for key in ("one", "two"):
        await cache.result(key, compute)
    await cache.clear()
    await cache.result("one", compute)
    assert compute.num == 3


async def test_one_keys_results_are_forgotten_and_no_others(entries: Entries) -> None:
    cache = ResultCache(CacheHost(entries), kind="any")
    for key_id in ("a", "b"):
        for audio in ("one", "two"):
            await cache.result(cache.key(audio, key_id), computing())
    assert await cache.forget("a") == 2
    assert (await cache.result(cache.key("one", "b"), computing())).hit_at is not None
    assert (await cache.result(cache.key("one", "a"), computing())).hit_at is None


async def test_hits_and_misses_are_counted(entries: Entries) -> None:
    cache = ResultCache(CacheHost(entries), kind="any")
    for _ in range(4):
        await cache.result("one", computing())
    stats = await cache.stats()
    assert (stats.hits, stats.misses, stats.hit_rate) == (3, 1, 0.75)
    assert CacheStats().hit_rate == 0


async def test_sealed_results_need_their_key(entries: Entries) -> None:
    compute = computing()
    for key in ("k" * 32, "another " * 4, "another " * 4):
        await ResultCache(CacheHost(entries, Seal(key)), kind="any").result("one", compute)
    assert compute.num == 2
    raw = await entries.get("one")
    assert raw is not None
    assert b"hello" not in raw


def test_all_that_decides_an_answer_is_in_its_key() -> None:
    cache = ResultCache(CacheHost(MemoryEntries(max_bytes=1, ttl_s=1)), kind="memory", fingerprint="1")
    parts = ("5ha", "a", {"language": "en", "beam_size": 1}, ["base"])
    key = cache.key(*parts)
    assert key == cache.key("5ha", "a", {"beam_size": 1, "language": "en"}, ["base"])
    others = [
        ("5hb", *parts[1:]),
        ("5ha", "b", *parts[2:]),
        ("5ha", "a", {"language": "pt", "beam_size": 1}, ["base"]),
        ("5ha", "a", {"language": "en", "beam_size": 1}, ["small"]),
    ]
    newer = ResultCache(CacheHost(MemoryEntries(max_bytes=1, ttl_s=1)), kind="memory", fingerprint="2")
    keys = {key, newer.key(*parts), *(cache.key(*other) for other in others)}
    assert len(keys) == len(others) + 2


def test_keys_share_results_only_where_that_is_set() -> None:
    store = CacheHost(MemoryEntries(max_bytes=1, ttl_s=1))
    own, shared = ResultCache(store, kind="memory"), ResultCache(store, kind="memory", shared=True)
    assert own.key("5ha", "a") != own.key("5ha", "b") != own.key("5ha", "")
    assert shared.key("5ha", "a") == shared.key("5ha", "b")
    assert shared.key("5ha", "a") not in (own.key("5ha", "a"), own.key("5ha", ""))


# -- single flight ---------------------------------------------------------------------------------------


class Gated:
    """Computes when it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.open = asyncio.Event()
        self.began = asyncio.Event()
        self.num = self.num_released = self.num_cancelled = 0
        self._error = error

    async def __call__(self) -> bytes:
        self.num += 1
        self.began.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self._error is not None:
            raise self._error
        return b"1"

    def release(self) -> None:
        self.num_released += 1


def memory_cache(**changes: Any) -> ResultCache:
    return ResultCache(CacheHost(MemoryEntries(max_bytes=MIB, ttl_s=60)), kind="memory", **changes)


async def test_the_same_at_once_is_computed_once() -> None:
    cache, work = memory_cache(), Gated()
    asking = [asyncio.create_task(cache.result("key", work, work.release)) for _ in range(5)]
    await work.began.wait()
    work.open.set()
    found = await asyncio.gather(*asking)
    assert {one.value for one in found} == {b"1"}
    assert sum(one.hit_at is None for one in found) == 1
    assert (work.num, work.num_released) == (1, 5)


async def test_who_leaves_does_not_take_the_others_work_along() -> None:
    cache, work = memory_cache(), Gated()
    first = asyncio.create_task(cache.result("key", work, work.release))
    await work.began.wait()
    second = asyncio.create_task(cache.result("key", work, work.release))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert work.num_released == 0  # the first one's audio is still worked on
    work.open.set()
    assert (await second).value == b"1"
    assert (work.num, work.num_released, work.num_cancelled) == (1, 2, 0)


async def test_work_stops_when_all_have_left() -> None:
    cache, work = memory_cache(), Gated()
    asking = [asyncio.create_task(cache.result("key", work, work.release)) for _ in range(3)]
    await work.began.wait()
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    fresh = Gated()
    fresh.open.set()
    assert (await cache.result("key", fresh)).hit_at is None  # not joined to what was being cancelled
    assert (work.num_cancelled, work.num_released) == (1, 3)


async def test_a_failure_is_everyones_and_is_not_kept() -> None:
    cache, work = memory_cache(), Gated(ValueError("no"))
    asking = [asyncio.create_task(cache.result("key", work, work.release)) for _ in range(2)]
    await work.began.wait()
    work.open.set()
    assert [str(one) for one in await asyncio.gather(*asking, return_exceptions=True)] == ["no", "no"]
    assert (await cache.result("key", computing())).hit_at is None


async def test_two_replicas_compute_the_same_once() -> None:
    host = CacheHost(MemoryEntries(max_bytes=MIB, ttl_s=60))
    here, there = ResultCache(host, kind="memory"), ResultCache(host, kind="memory")
    work = Gated()
    first = asyncio.create_task(here.result("key", work))
    await work.began.wait()
    second = asyncio.create_task(there.result("key", work))
    await asyncio.sleep(0.01)
    work.open.set()
    assert (await first).hit_at is None
    assert (await second).hit_at is not None
    assert work.num == 1
    assert (await host.stats()).misses == 1


async def test_what_was_being_computed_when_the_cache_was_cleared_is_not_kept() -> None:
    cache, work = memory_cache(), Gated()
    asking = asyncio.create_task(cache.result("key", work))
    await work.began.wait()
    await cache.clear()
    work.open.set()
    assert (await asking).value == b"1"
    assert (await cache.result("key", computing())).hit_at is None


async def test_what_one_replica_gives_up_another_computes() -> None:
    host = CacheHost(MemoryEntries(max_bytes=MIB, ttl_s=60))
    here, there = ResultCache(host, kind="memory"), ResultCache(host, kind="memory")
    work, other = Gated(), computing()
    first = asyncio.create_task(here.result("key", work))
    await work.began.wait()
    second = asyncio.create_task(there.result("key", other))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).value == compute_value
    assert (work.num_cancelled, other.num) == (1, 1)


async def test_a_replica_that_died_holds_nothing_up() -> None:
    now_s = 0.0
    host = CacheHost(MemoryEntries(max_bytes=MIB, ttl_s=60), clock_s=lambda: now_s)
    assert not (await host.look_up("key")).claimed
    now_s = CLAIM_S - 0.1
    await host.renew("key")
    now_s = 2 * CLAIM_S - 0.2
    waiting = asyncio.create_task(host.look_up("key"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    now_s = 2 * CLAIM_S
    async with asyncio.timeout(20):
        assert not (await waiting).claimed
    assert (await host.stats()).misses == 2


# -- bounds ----------------------------------------------------------------------------------------------


async def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    entries = MemoryEntries(max_bytes=300, ttl_s=60)
    for key in "abc":
        await entries.put(key, bytes(100))
    assert await entries.get("a") is not None
    await entries.put("d", bytes(100))
    assert [key for key in "abcd" if await entries.get(key) is not None] == ["a", "c", "d"]
    await entries.put("huge", bytes(301))
    assert await entries.get("huge") is None
    assert await entries.size() == (3, 300)


async def test_memory_forgets_in_time() -> None:
    now_s = 0.0
    entries = MemoryEntries(max_bytes=300, ttl_s=60, clock_s=lambda: now_s)
    await entries.put("a", b"1")
    now_s = 59.9
    assert await entries.get("a") == b"1"
    now_s = 60.0
    assert await entries.get("a") is None
    assert await entries.size() == (0, 0)


async def test_a_folder_is_bounded(tmp_path: Path) -> None:
    entries = DiskEntries(tmp_path, max_bytes=4 * MIB, ttl_s=60)
    for index in range(40):
        await entries.put(str(index), bytes(MIB // 4))
        _, num_bytes = await entries.size()
        assert num_bytes is not None
        assert num_bytes <= 4 * MIB
    assert await entries.get("39") is not None
    assert await entries.get("0") is None
    await entries.put("huge", bytes(MIB))
    assert await entries.get("huge") is None
    await entries.close()


async def test_what_expired_is_deleted_without_being_asked_for(tmp_path: Path) -> None:
    now_s = 0.0
    memory = MemoryEntries(max_bytes=MIB, ttl_s=60, clock_s=lambda: now_s)
    disk = DiskEntries(tmp_path, max_bytes=MIB, ttl_s=0.001)
    for entries in (memory, disk):
        await entries.put("a", b"1")
    now_s = 61.0
    await asyncio.sleep(0.01)
    for entries in (memory, disk):
        await entries.forget_expired()
        num_entries, _ = await entries.size()
        assert num_entries == 0
    await disk.close()


async def test_time_limits_on_disk_and_in_redis(tmp_path: Path, redis_url: str) -> None:
    for entries in (DiskEntries(tmp_path, max_bytes=MIB, ttl_s=0.001), RedisEntries(redis_url, ttl_s=0.001)):
        await entries.put("a", b"1")
        async with asyncio.timeout(10):
            while await entries.get("a") is not None:
                await asyncio.sleep(0.01)
        await entries.close()


async def test_a_folder_holds_no_program(tmp_path: Path) -> None:
    """A pickle put into the folder is neither run nor taken for a result."""
    entries = DiskEntries(tmp_path, max_bytes=MIB, ttl_s=60)
    await entries.put("a", b"1")
    ran = tmp_path / "ran"
    with sqlite3.connect(tmp_path / "cache.db") as database:
        program = pickle.dumps(_Touching(ran))
        database.execute("UPDATE Cache SET mode = 4, value = ?, filename = NULL", (program,))
    database.close()
    with pytest.raises(CacheLost, match="pickle"):
        await entries.get("a")
    assert not _exists(ran)
    with pytest.raises(TypeError):
        await entries.put("b", {"not": "bytes"})  # type: ignore[arg-type]
    await entries.close()


def _exists(path: Path) -> bool:
    return path.exists()


class _Touching:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self.path), "w")


async def test_only_our_own_keys_of_redis_are_touched(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as other:
        other.flushdb()
        other.set("sotto:job:1", "theirs")
        other.set("result:1", "theirs")
        entries = RedisEntries(redis_url, ttl_s=60)
        for index in range(1200):
            await entries.put(str(index), b"1")
        assert len(other.keys(f"{REDIS_PREFIX}*")) == 1200
        await entries.clear()
        assert sorted(other.keys()) == [b"result:1", b"sotto:job:1"]
        other.flushdb()
        await entries.close()


# -- a cache that is lost --------------------------------------------------------------------------------


@asynccontextmanager
async def lost_redis(clock_s: Callable[[], float] = time.monotonic) -> AsyncIterator[RedisEntries]:
    entries = RedisEntries(f"redis://127.0.0.1:{free_ports(1)[0]}/0", ttl_s=60, clock_s=clock_s)
    yield entries
    await entries.close()


async def test_without_redis_uploads_are_computed() -> None:
    num_lost = 0

    def lost() -> None:
        nonlocal num_lost
        num_lost += 1

    async with lost_redis() as entries:
        cache = ResultCache(CacheHost(entries), kind="redis", on_lost=lost)
        compute = computing()
        for num in (1, 2):
            found = await cache.result("key", compute)
            assert (found.value, found.cached_at, found.hit_at) == (compute_value, None, None)
            assert compute.num == num
        assert num_lost == 4  # at each look and at each result to keep
        with pytest.raises(CacheLost):
            await cache.clear()


compute_value = b'{"text":"hello"}'


async def test_a_lost_redis_is_left_alone_for_a_while_and_then_asked_again(redis_url: str) -> None:
    now_s = 0.0
    async with lost_redis(lambda: now_s) as entries:
        with pytest.raises(CacheLost, match="ConnectionError"):
            await entries.get("a")
        with pytest.raises(CacheLost, match="a moment ago"):
            await entries.get("a")
        now_s = 5.0
        with pytest.raises(CacheLost, match="ConnectionError"):
            await entries.get("a")


async def test_an_entry_that_is_no_result_is_a_miss() -> None:
    entries = MemoryEntries(max_bytes=MIB, ttl_s=60)
    await entries.put("key", b"rubbish")
    found = await ResultCache(CacheHost(entries), kind="memory").result("key", computing())
    assert found.hit_at is None
