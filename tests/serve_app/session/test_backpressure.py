"""The gate in front of interims."""

from __future__ import annotations

import pytest

from serve_app.session.backpressure import BURST_S, InterimBudget, InterimGate


def sent_over(gate: InterimGate, seconds: float, cost_s: float, wait_ms: float = 0.0, finals: int = 0) -> int:
    """Send whenever allowed, each decode taking `cost_s`, one after the other, for `seconds`."""
    now, count = 0.0, 0
    while now < seconds:
        if gate.may_send(now, finals):
            gate.sent()
            now += cost_s
            gate.answered(wait_ms, cost_s * 1000)
            count += 1
        else:
            now += 0.01
    return count


def test_interims_keep_to_their_share_of_the_workers() -> None:
    gate = InterimGate(InterimBudget(num_workers=2, max_in_flight=1, share=0.25), 0.0)
    busy_s = sent_over(gate, 100.0, 0.1) * 0.1
    assert 48 <= busy_s <= 52 + BURST_S


def test_finals_in_the_queue_hold_interims_back() -> None:
    gate = InterimGate(InterimBudget(num_workers=2), 0.0)
    assert gate.may_send(0.0, 2)
    assert not gate.may_send(0.0, 3)


def test_the_limit_grows_while_waits_are_short_and_halves_when_they_are_long() -> None:
    gate = InterimGate(InterimBudget(num_workers=4, max_in_flight=2), 0.0)
    for _ in range(40):
        while gate.may_send(0.0, 0):
            gate.sent()
        gate.answered(1.0, 10.0)
    grown = gate._limit
    assert grown > 30
    for _ in range(5):
        gate.answered(500.0, 10.0)
    assert 2 <= gate._limit < grown / 4


def test_finals_that_wait_take_the_share_of_interims() -> None:
    def busy_s(final_wait_ms: float) -> float:
        gate = InterimGate(InterimBudget(num_workers=2, max_in_flight=1, share=0.25), 0.0)
        for _ in range(50):
            gate.final_answered(final_wait_ms)
        return sent_over(gate, 100.0, 0.1) * 0.1

    assert busy_s(20.0) == busy_s(0.0)
    assert 0.4 * busy_s(0.0) < busy_s(140.0) < 0.6 * busy_s(0.0)
    assert 0 < busy_s(1000.0) < 0.15 * busy_s(0.0)


def test_windows_of_interims_shrink_as_finals_wait() -> None:
    shares = []
    for final_wait_ms in (0.0, 40.0, 90.0, 140.0, 1000.0):
        gate = InterimGate(InterimBudget(num_workers=2, share=0.25), 0.0)
        for _ in range(50):
            gate.final_answered(final_wait_ms)
        shares.append(gate.window_share)
    assert shares[:2] == [1.0, pytest.approx(1.0, abs=0.01)]
    assert shares == sorted(shares, reverse=True)
    assert 0.5 < shares[2] < 0.9
    assert shares[-1] == pytest.approx(0.4)
