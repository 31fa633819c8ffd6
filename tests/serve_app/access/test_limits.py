from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from serve_app.access import limits
from serve_app.access.caller import Caller, KeyLimits
from serve_app.access.limit_store import Charge, LocalStore, Outcome, Seat, StoreLost
from serve_app.access.limits import Lease, Limiter
from serve_app.core.errors import LimitReached, PayloadTooLarge

KEY = Caller("key-1", address="203.0.113.9")


class Recording(LocalStore):
    """Counts what it is asked, and may be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.num_asked = 0
        self.lost = False

    def _heard(self) -> None:
        self.num_asked += 1
        if self.lost:
            raise StoreLost("away")

    async def take(self, charges: Sequence[Charge]) -> Outcome:
        self._heard()
        return await super().take(charges)

    async def acquire(self, lease: str, seats: Sequence[Seat]) -> Seat | None:
        self._heard()
        return await super().acquire(lease, seats)


async def test_nothing_is_asked_where_no_limit_is_set() -> None:
    store = Recording()
    usage = Limiter(store).usage(KEY)
    await usage.request()
    (await usage.session()).release()
    await usage.audio(1e9)
    assert store.num_asked == 0


async def test_a_key_and_its_address_are_held_to_their_own_limits() -> None:
    limiter = Limiter(of_address=KeyLimits(requests_per_day=3), of_key=KeyLimits(requests_per_day=2))
    for _ in range(2):
        await limiter.usage(KEY).request()
    with pytest.raises(LimitReached, match="2 requests a day for this key") as reached:
        await limiter.usage(KEY).request()
    assert reached.value.retry_after_s is not None
    assert reached.value.retry_after_s >= 1
    await limiter.usage(Caller("key-2", address=KEY.address)).request()
    with pytest.raises(LimitReached, match="3 requests a day for this address"):
        await limiter.usage(Caller("key-3", address=KEY.address)).request()
    await limiter.usage(Caller("key-3", address="203.0.113.10")).request()


async def test_a_keys_own_limits_come_before_the_defaults_field_by_field() -> None:
    limiter = Limiter(of_key=KeyLimits(sessions=1, requests_per_day=1))
    usage = limiter.usage(Caller("key-1", limits=KeyLimits(requests_per_day=2)))
    await usage.request()
    await usage.request()
    await usage.session()
    with pytest.raises(LimitReached, match="1 sessions at once for this key"):
        await usage.session()


async def test_a_session_is_given_back_once() -> None:
    usage = (limiter := Limiter(of_address=KeyLimits(sessions=2))).usage(KEY)
    first, second = await usage.session(), await usage.session()
    for _ in range(2):
        first.release()
    await limiter.settled()
    third = await usage.session()
    with pytest.raises(LimitReached):
        await usage.session()
    for lease in (second, third):
        lease.release()
    await limiter.settled()


async def test_audio_is_counted_in_whole_seconds() -> None:
    usage = Limiter(of_address=KeyLimits(audio_minutes_per_day=0.5)).usage(KEY)
    await usage.audio(0)
    await usage.audio(9.1)
    await usage.audio(20)
    with pytest.raises(LimitReached, match="0.5 minutes of audio a day"):
        await usage.audio(0.1)


async def test_a_recording_that_no_window_holds_is_too_large() -> None:
    limiter = Limiter(of_address=KeyLimits(audio_minutes_per_minute=1, audio_minutes_per_day=60))
    with pytest.raises(PayloadTooLarge, match="1 minutes of audio a minute"):
        await limiter.usage(KEY).audio(61)


async def test_a_lost_store_leaves_limits_of_this_process_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RETRY_STORE_S", 0.0)
    store = Recording()
    limiter = Limiter(store, of_address=KeyLimits(requests_per_day=2, sessions=1))
    usage = limiter.usage(KEY)
    store.lost = True
    with capture_logs() as logs:
        await usage.request()
        await usage.request()
        with pytest.raises(LimitReached):
            await usage.request()
        assert isinstance(lease := await usage.session(), Lease)
        with pytest.raises(LimitReached):
            await usage.session()
    assert {entry["log_level"] for entry in logs} == {"warning"}
    assert store.num_asked == 5
    store.lost = False
    await usage.request()
    lease.release()
    await limiter.settled()


async def test_a_lost_store_is_left_alone_for_a_while() -> None:
    store = Recording()
    store.lost = True
    usage = Limiter(store, of_address=KeyLimits(requests_per_day=9)).usage(KEY)
    for _ in range(5):
        await usage.request()
    assert store.num_asked == 1


async def test_leases_are_renewed_while_they_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RENEWAL_S", 0.0)
    renewed: asyncio.Queue[object] = asyncio.Queue()

    class Renewing(LocalStore):
        async def renew(self, leases: object) -> None:
            renewed.put_nowait(leases)

    limiter = Limiter(Renewing(), of_address=KeyLimits(sessions=1))
    lease = await limiter.usage(KEY).session()
    for _ in range(2):
        (names,) = dict(await asyncio.wait_for(renewed.get(), 60)).values()  # type: ignore[call-overload]
        assert names == ["address:203.0.113.9"]
    lease.release()
    await limiter.settled()
    second = await limiter.usage(KEY).session()
    await asyncio.wait_for(renewed.get(), 60)
    second.release()
    await limiter.settled()
