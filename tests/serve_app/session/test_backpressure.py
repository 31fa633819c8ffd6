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


def test_interims_keep_the_share_that_load_leaves_them() -> None:
    def busy_s(relief: float) -> float:
        gate = InterimGate(InterimBudget(num_workers=2, max_in_flight=1, share=0.25), 0.0)
        gate.relief = relief
        return sent_over(gate, 100.0, 0.1) * 0.1

    assert 0.4 * busy_s(1.0) < busy_s(0.5) < 0.6 * busy_s(1.0)
    assert 0 < busy_s(0.1) < 0.15 * busy_s(1.0)


def test_windows_shrink_to_their_least_while_half_of_the_share_is_left() -> None:
    gate = InterimGate(InterimBudget(num_workers=2, share=0.25), 0.0)
    shares = []
    for gate.relief in (1.0, 0.75, 0.5, 0.1):
        shares.append(gate.window_share)
    assert shares == [1.0, pytest.approx(0.7), pytest.approx(0.4), pytest.approx(0.4)]


def test_paused_interims_wait() -> None:
    gate = InterimGate(InterimBudget(num_workers=2), 0.0)
    gate.paused = True
    assert not gate.may_send(0.0, 0)
