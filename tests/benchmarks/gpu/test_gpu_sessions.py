"""Sessions on a card, simulated from batch times that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu.batches import Point
from benchmarks.gpu.sessions import (
    BatchTimes,
    Talk,
    most_sessions,
    simulate,
)

TALK = Talk(seconds=20.0)


def times(fixed_s: float, per_item_s: float = 0.0, batches: tuple[int, ...] = (1, 2, 4, 8)) -> BatchTimes:
    return BatchTimes(
        [
            Point(batch, window_s, (fixed_s + per_item_s * batch,))
            for batch in batches
            for window_s in (3.0, 8.0)
        ]
    )


def test_times_are_those_of_the_next_larger_batch_and_window() -> None:
    measured = times(0.1, 0.01)
    assert [measured.window_of(seconds) for seconds in (0.5, 3.0, 3.1, 8.0, 20.0)] == [
        3.0,
        3.0,
        8.0,
        8.0,
        8.0,
    ]
    assert measured.seconds(3.0, 1, 2.0) == pytest.approx(0.11)
    assert measured.seconds(3.0, 3, 2.0) == pytest.approx(0.14)
    assert measured.seconds(8.0, 8, 16.0) == pytest.approx(2 * 0.18)
    with pytest.raises(ValueError, match="no measured"):
        BatchTimes([])


def test_one_session_waits_for_its_own_decodes_alone() -> None:
    load = simulate(times(0.05), TALK, 1)
    assert load.final_p50_s >= 0.05
    assert load.final_p95_s <= 0.1
    assert load.interims_done > 0.9
    assert 0 < load.busy_share < 0.2


def test_a_worker_that_is_too_slow_holds_nobody() -> None:
    load = most_sessions(times(2.0), TALK)
    assert load.num_sessions == 0


def test_the_load_found_is_good_and_more_is_not() -> None:
    measured = times(0.02, 0.01)
    load = most_sessions(measured, TALK)
    assert load.num_sessions > 4
    assert load.good(TALK)
    assert load == simulate(measured, TALK, load.num_sessions)
    assert not simulate(measured, TALK, round(1.1 * load.num_sessions) + 1).good(TALK)


def test_batches_hold_more_sessions() -> None:
    single = most_sessions(times(0.05, 0.001), replace(TALK, max_batch=1)).num_sessions
    batched = most_sessions(times(0.05, 0.001), TALK).num_sessions
    assert batched > 2 * single


@given(fixed_ms=st.integers(5, 60), item_ms=st.integers(0, 20), sessions=st.integers(1, 12))
def test_a_faster_card_is_never_later(fixed_ms: int, item_ms: int, sessions: int) -> None:
    talk = Talk(seconds=8.0, max_batch=1)
    slow = simulate(times(fixed_ms / 1000, item_ms / 1000), talk, sessions)
    fast = simulate(times(fixed_ms / 3000, item_ms / 3000), talk, sessions)
    assert fast.num_sessions == slow.num_sessions == sessions
    assert fast.final_p95_s <= slow.final_p95_s
    assert fast.busy_share <= slow.busy_share + 1e-9
    assert 0 <= slow.interims_done <= 1
