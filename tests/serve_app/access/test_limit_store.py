"""Counting, in memory and in a real Redis: the same answers from both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from serve_app.access.limit_store import (
    DAY_S,
    LEASE_S,
    MINUTE_S,
    Charge,
    LimitStore,
    LocalCounts,
    LocalStore,
    Seat,
    StoreLost,
)
from serve_app.access.redis_store import RedisStore


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[LimitStore]:
    if request.param == "memory":
        yield LocalStore()
        return
    store = RedisStore(request.getfixturevalue("redis_url"))
    yield store
    await store.close()


def requests(name: str, limit: int, per_s: int = DAY_S, cost: int = 1) -> Charge:
    return Charge(name, "requests", limit, per_s, cost)


async def test_exactly_as_many_as_the_limit_however_many_ask_at_once(store: LimitStore) -> None:
    outcomes = await asyncio.gather(*(store.take([requests("many", 20)]) for _ in range(50)))
    assert sum(outcome.refused is None for outcome in outcomes) == 20


async def test_what_is_left_is_said(store: LimitStore) -> None:
    (first,) = (await store.take([requests("left", 3)])).standings
    assert (first.remaining, first.charge.limit) == (2, 3)
    await store.take([requests("left", 3, cost=2)])
    refused = (await store.take([requests("left", 3)])).refused
    assert refused is not None
    assert refused.remaining == 0
    assert 0 < refused.reset_s <= DAY_S


async def test_nothing_is_charged_where_one_limit_has_no_room(store: LimitStore) -> None:
    tight, wide = requests("tight", 1), requests("wide", 2)
    assert (await store.take([tight, wide])).refused is None
    for _ in range(3):
        refused = (await store.take([wide, tight])).refused
        assert refused is not None
        assert refused.charge.name == "tight"
    assert (await store.take([wide])).refused is None


async def test_names_units_and_windows_are_counted_apart(store: LimitStore) -> None:
    charges = [
        requests("apart", 1),
        requests("apart too", 1),
        Charge("apart", "audio", 1, DAY_S),
        requests("apart", 1, MINUTE_S),
    ]
    assert [(await store.take([charge])).refused for charge in charges] == [None] * 4


async def test_exactly_as_many_sessions_as_there_are_seats(store: LimitStore) -> None:
    seats = [Seat("hall", 5)]
    full = await asyncio.gather(*(store.acquire(f"lease-{index}", seats) for index in range(12)))
    assert full.count(None) == 5
    held = [index for index, seat in enumerate(full) if seat is None]
    await store.release(f"lease-{held[0]}", ["hall"])
    assert await store.acquire("next", seats) is None
    assert await store.acquire("one too many", seats) == seats[0]


async def test_no_seat_is_taken_where_one_is_not_free(store: LimitStore) -> None:
    stall, box = Seat("stall", 1), Seat("box", 1)
    assert await store.acquire("first", [stall]) is None
    assert await store.acquire("second", [box, stall]) == stall
    assert await store.acquire("third", [box]) is None


async def test_a_lease_that_the_store_lost_is_taken_again_when_it_is_renewed(store: LimitStore) -> None:
    seats = [Seat("lost", 1)]
    await store.renew({"mine": ["lost"]})
    assert await store.acquire("other", seats) == seats[0]


def test_what_a_dead_replica_held_is_free_again_after_a_while() -> None:
    now_s = 100.0
    counts = LocalCounts(lambda: now_s)
    seats = [Seat("a", 1)]
    assert counts.acquire("dead", seats) is None
    now_s += LEASE_S - 1
    assert counts.acquire("waiting", seats) == seats[0]
    counts.renew({"dead": ["a"]})
    now_s += LEASE_S - 1
    assert counts.acquire("waiting", seats) == seats[0]
    now_s += 2
    assert counts.acquire("waiting", seats) is None


async def test_leases_in_redis_expire_too(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, seats = RedisStore(redis_url), [Seat("expiring", 1)]
    assert await store.acquire("dead", seats) is None
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + LEASE_S + 1)
    assert await store.acquire("waiting", seats) is None
    await store.close()


async def test_a_redis_that_is_not_there_is_lost() -> None:
    store = RedisStore("redis://127.0.0.1:1/0")
    with pytest.raises(StoreLost):
        await store.take([requests("any", 1)])
    with pytest.raises(StoreLost):
        await store.acquire("any", [Seat("any", 1)])
    with pytest.raises(StoreLost):
        await store.renew({"any": ["any"]})
    with pytest.raises(StoreLost):
        await store.release("any", ["any"])
    await store.close()
