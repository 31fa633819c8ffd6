"""The actor that counts, without a cluster; with one: tests/cluster/test_limits_on_cluster.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorUnavailableError

from deployments import limits
from deployments.limits import LimitCounts, SharedCounts
from serve_app.access.limit_store import DAY_S, Charge, Seat, StoreLost

CHARGE = Charge("key:a", "requests", 2, DAY_S)


class OnThisLoop:
    """A handle of an actor that is none: its methods answer as `ask` says."""

    def __init__(self, counts: LimitCounts, ask: Callable[[Awaitable[Any]], Awaitable[Any]]) -> None:
        self._counts = counts
        self._ask = ask

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._ask(getattr(self._counts, name)(*arguments)))


async def at_once(answer: Awaitable[Any]) -> Any:
    return await answer


async def unavailable(answer: Awaitable[Any]) -> Any:
    await answer
    raise ActorUnavailableError("gone", None)


async def silent(answer: Awaitable[Any]) -> Any:
    await answer
    await asyncio.Event().wait()


def replica(
    monkeypatch: pytest.MonkeyPatch, *answers: Callable[[Awaitable[Any]], Awaitable[Any]]
) -> SharedCounts:
    """One that finds, time after time, an actor that answers so; the counts are the same."""
    shared, counts, left = SharedCounts("app"), LimitCounts(), list(answers)
    monkeypatch.setattr(shared, "_find", lambda: OnThisLoop(counts, left.pop(0)))
    return shared


async def test_what_is_asked_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = replica(monkeypatch, at_once)
    outcomes = [await shared.take([CHARGE]) for _ in range(3)]
    assert [outcome.refused is None for outcome in outcomes] == [True, True, False]
    assert await shared.acquire("one", [Seat("key:a", 1)]) is None
    assert await shared.acquire("two", [Seat("key:a", 1)]) == Seat("key:a", 1)
    await shared.release("one", ["key:a"])
    await shared.renew({"two": ["key:a"]})
    assert await shared.acquire("one", [Seat("key:a", 1)]) == Seat("key:a", 1)


@pytest.mark.parametrize("answer", [unavailable, silent])
async def test_an_actor_that_does_not_answer_is_lost_and_looked_for_again(
    answer: Callable[[Awaitable[Any]], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(limits, "START_TIMEOUT_S", 0.05)
    shared = replica(monkeypatch, answer, at_once)
    with pytest.raises(StoreLost, match="sotto-limits-app"):
        await shared.take([CHARGE])
    assert (await shared.take([CHARGE])).refused is None


async def test_an_actor_that_is_not_asked_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    retired = asyncio.Event()
    actor = SimpleNamespace(retire=SimpleNamespace(remote=retired.set))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(current_actor=actor))
    counts = LimitCounts(unused_s=0.2)
    for _ in range(5):
        await counts.take([CHARGE])
        await asyncio.sleep(0.08)
    assert not retired.is_set(), "it was asked all the time"
    await asyncio.wait_for(retired.wait(), 60)
