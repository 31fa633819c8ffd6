"""Which keys hold now, what a check costs, and who hears that a key does not hold any more."""

from __future__ import annotations

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from fakes.kept_keys import NOW_S, MemoryKeys, cheap_key
from serve_app.access import keyring as module
from serve_app.access.api_keys import ApiKey
from serve_app.access.caller import Scope
from serve_app.access.keyring import PLAIN_KEY_ID, Keyring
from serve_app.core.errors import QueueFull


class Clock:
    def __init__(self, now_s: float = NOW_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the keys for which scrypt ran."""
    ran: list[str] = []
    matches = ApiKey.matches

    def counted(self: ApiKey, text: str) -> bool:
        assert threading.current_thread() is not threading.main_thread(), "scrypt on the event loop"
        ran.append(self.id)
        return matches(self, text)

    monkeypatch.setattr(ApiKey, "matches", counted)
    return ran


async def test_scrypt_runs_once_for_a_key_and_never_for_an_unknown_one(checks: list[str]) -> None:
    text, key = cheap_key(Scope.LIVE)
    stranger, _ = cheap_key()
    ring = Keyring(MemoryKeys(key), now_s=lambda: NOW_S)
    for _ in range(3):
        caller = await ring.caller(text)
        assert caller is not None
        assert (caller.key_id, caller.scopes) == (key.id, {Scope.LIVE})
        assert await ring.caller(stranger) is None
        assert await ring.caller("no key at all") is None
        assert await ring.caller("") is None
    assert checks == [key.id]


async def test_a_key_of_the_right_id_and_another_secret_is_none(checks: list[str]) -> None:
    text, key = cheap_key()
    forged = f"sotto_{key.id}_{'0' * 64}"
    ring = Keyring(MemoryKeys(key), now_s=lambda: NOW_S)
    assert await ring.caller(forged) is None
    assert await ring.caller(text) is not None
    assert await ring.caller(forged) is None
    assert len(checks) == 3


async def test_after_a_wrong_key_the_check_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses take a fifth of one core at most, whatever their number."""
    _, key = cheap_key()
    clock, slept = Clock(100.0), []

    def slow(self: ApiKey, text: str) -> bool:
        clock.now_s += 0.04
        return False

    async def sleep(delay_s: float) -> None:
        slept.append(round(delay_s, 6))
        clock.now_s += delay_s

    monkeypatch.setattr(ApiKey, "matches", slow)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    ring = Keyring(MemoryKeys(key), now_s=lambda: NOW_S, monotonic_s=clock)
    for number in range(10):
        assert await ring.caller(f"sotto_{key.id}_{number:064x}") is None
    assert slept == [0.0] + [0.16] * 9
    assert clock.now_s == pytest.approx(100 + 10 * 0.04 + 9 * 0.16)


async def test_so_many_keys_may_wait_for_their_check_and_known_ones_wait_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, key = cheap_key()
    ring = Keyring(MemoryKeys(key), now_s=lambda: NOW_S)
    assert await ring.caller(text) is not None
    held = threading.Event()
    monkeypatch.setattr(ApiKey, "matches", lambda self, text: held.wait(30) and False)
    waiting = [
        asyncio.create_task(ring.caller(f"sotto_{key.id}_{number:064x}"))
        for number in range(module.MAX_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await ring.caller(f"sotto_{key.id}_{'f' * 64}")
    assert await ring.caller(text) is not None
    for task in waiting[1:]:
        task.cancel()
    await asyncio.gather(*waiting[1:], return_exceptions=True)
    held.set()
    assert await waiting[0] is None


async def test_a_revoked_key_is_refused_and_its_watchers_hear_it_once() -> None:
    text, key = cheap_key()
    other_text, other = cheap_key()
    store = MemoryKeys(key, other)
    ring = Keyring(store, now_s=lambda: NOW_S)
    heard: list[str] = []
    with (
        ring.watched(key.id, lambda: heard.append("one")),
        ring.watched(key.id, lambda: heard.append("two")),
        ring.watched(other.id, lambda: heard.append("other")),
    ):
        with ring.watched(key.id, lambda: heard.append("gone before")):
            assert await ring.caller(text) is not None
        await ring.refresh()
        assert heard == []
        store.revoke(key.id, NOW_S)
        await ring.refresh()
        await ring.refresh()
        assert heard == ["one", "two"]
        assert await ring.caller(text) is None
        assert not ring.holds(key.id)
        assert await ring.caller(other_text) is not None
    with ring.watched(key.id, lambda: heard.append("late")):
        assert heard[-1] == "late"


async def test_a_key_expires_by_the_clock_alone() -> None:
    clock = Clock()
    text, key = cheap_key(expires_s=int(NOW_S) + 60)
    ring = Keyring(MemoryKeys(key), now_s=clock)
    heard: list[str] = []
    with ring.watched(key.id, lambda: heard.append("expired")):
        assert await ring.caller(text) is not None
        clock.now_s += 60
        assert await ring.caller(text) is None
        await ring.refresh()
    assert heard == ["expired"]


async def test_a_key_made_anew_under_an_id_is_checked_anew(checks: list[str]) -> None:
    text, key = cheap_key()
    store = MemoryKeys(key)
    ring = Keyring(store, now_s=lambda: NOW_S)
    assert await ring.caller(text) is not None
    _, replaced = cheap_key()
    import msgspec

    store.add(msgspec.structs.replace(replaced, id=key.id))
    await ring.refresh()
    assert await ring.caller(text) is None
    assert checks == [key.id, key.id]


async def test_keys_that_cannot_be_read_stay_what_they_were_and_it_is_logged_once() -> None:
    text, key = cheap_key()
    store = MemoryKeys(key)
    ring = Keyring(store, now_s=lambda: NOW_S)
    store.broken = True
    with capture_logs() as logs:
        await ring.refresh()
        await ring.refresh()
    assert [entry["event"] for entry in logs] == ["keys cannot be read"]
    assert await ring.caller(text) is not None
    store.broken = False
    store.revoke(key.id, NOW_S)
    await ring.refresh()
    assert await ring.caller(text) is None


async def test_a_store_that_cannot_be_read_at_the_start_opens_nothing_until_it_can() -> None:
    text, key = cheap_key()
    store = MemoryKeys(key)
    store.broken = True
    ring = Keyring(store, now_s=lambda: NOW_S)
    assert await ring.caller(text) is None
    store.broken = False
    await ring.refresh()
    assert await ring.caller(text) is not None


async def test_reading_goes_on_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    text, key = cheap_key()
    store = MemoryKeys()
    ring = Keyring(store, now_s=lambda: NOW_S)
    monkeypatch.setattr(module, "READ_INTERVAL_S", 0.0)
    monkeypatch.setattr(store, "read", lambda known: 1 / 0)
    reading = asyncio.create_task(ring.keep_reading())
    with capture_logs() as logs:
        while not logs:
            await asyncio.sleep(0)
    monkeypatch.undo()
    store.add(key)
    monkeypatch.setattr(module, "READ_INTERVAL_S", 0.0)
    async with asyncio.timeout(30):
        while await ring.caller(text) is None:
            await asyncio.sleep(0.001)
    reading.cancel()
    assert logs[0]["event"] == "keys were not read"


async def test_one_plain_key_may_do_all_beside_the_others() -> None:
    text, key = cheap_key(Scope.METRICS)
    ring = Keyring(MemoryKeys(key), plain="hunter2", now_s=lambda: NOW_S)
    caller = await ring.caller("hunter2")
    assert caller is not None
    assert (caller.key_id, caller.scopes) == (PLAIN_KEY_ID, set(Scope))
    assert await ring.caller("hunter22") is None
    assert await ring.caller("hunter") is None
    assert await ring.caller(text) is not None
    assert ring.holds(PLAIN_KEY_ID)
    assert not Keyring(MemoryKeys(key)).holds(PLAIN_KEY_ID)


def test_an_empty_plain_key_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Keyring(plain="")
