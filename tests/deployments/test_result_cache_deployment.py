"""The result cache's deployment behind its handle, in Serve's local mode: no cluster, the same calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray import serve
from ray.exceptions import RayActorError, RayTaskError

from deployments import ports
from deployments.ports import CacheHandle
from deployments.result_cache import ResultCacheHost
from serve_app.cache.ports import CacheLost
from serve_app.cache.results import ResultCache


def computing(value: bytes) -> Any:
    async def compute() -> bytes:
        return value

    return compute


@pytest.fixture
def handle() -> Any:
    application = serve.deployment(ResultCacheHost).bind({"result_cache_enabled": True})
    return serve.run(application, _local_testing_mode=True)


async def test_replicas_share_one_cache(handle: Any) -> None:
    here, there = (ResultCache(CacheHandle(handle), kind="memory") for _ in range(2))
    assert (await here.result("key", computing(b"1"))).hit_at is None
    found = await there.result("key", computing(b"2"))
    assert (found.value, found.hit_at is None) == (b"1", False)
    assert (await there.stats()).hits == 1
    await there.clear()
    assert (await here.result("key", computing(b"3"))).value == b"3"


async def test_what_is_given_up_is_free_again(handle: Any) -> None:
    store = CacheHandle(handle)
    assert not (await store.look_up("key")).claimed
    await store.renew("key")
    assert (await store.look_up("key")).claimed
    await store.release("key")
    assert not (await store.look_up("key")).claimed


class Failing:
    """A handle whose calls end like this."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def options(self, **options: Any) -> Failing:
        return self

    def __getattr__(self, name: str) -> Failing:
        return self

    async def remote(self, *args: Any) -> None:
        if self._error is None:
            await asyncio.Event().wait()
        raise self._error or AssertionError


@pytest.mark.parametrize(
    "error", [RayActorError(), RayTaskError("look_up", "traceback", CacheLost("Redis")), None], ids=str
)
async def test_whatever_goes_wrong_the_cache_is_lost_and_no_more(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "CACHE_DEADLINE_S", 0.01)
    store = CacheHandle(Failing(error))
    for call in (store.look_up("a"), store.keep("a", b"1"), store.release("a"), store.clear(), store.stats()):
        with pytest.raises(CacheLost):
            await call
    found = await ResultCache(store, kind="memory").result("key", computing(b"1"))
    assert (found.value, found.cached_at) == (b"1", None)
