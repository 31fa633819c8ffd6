"""The scaling policy: up before it hurts, down one by one, never in circles, never out of bounds."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.capacity.policy import (
    Decision,
    Demand,
    PolicyState,
    Reason,
    ReplicaFigures,
    ScalingRules,
    decide,
)

RULES = ScalingRules()
CAPACITY = 40.0
amounts = st.floats(0, 5_000, allow_nan=False)
figures = st.builds(ReplicaFigures, amounts, amounts, amounts, st.one_of(st.just(0.0), st.floats(0.1, 500)))
states = st.builds(
    PolicyState,
    updated_s=st.one_of(st.none(), st.floats(0, 1_000)),
    usual=amounts,
    quiet_since_s=st.one_of(st.none(), st.floats(0, 1_000)),
    last_down_s=st.one_of(st.none(), st.floats(0, 1_000)),
    num_wanted=st.one_of(st.none(), st.integers(0, 20)),
)
demands = st.builds(
    Demand,
    now_s=st.floats(1_000, 2_000),
    num_running=st.integers(0, 20),
    num_wanted=st.integers(0, 20),
    lowest=st.integers(0, 5),
    highest=st.integers(0, 20),
    replicas=st.lists(figures, max_size=20),
)


def demand(now_s: float, wanted: int, load: float, *, running: int | None = None, **more: float) -> Demand:
    """`load`: audio per second over all running replicas, which decode `CAPACITY` each."""
    running = wanted if running is None else running
    each = ReplicaFigures(arriving=load / max(1, running), capacity=CAPACITY)
    replicas = tuple(
        replace(each, **{k: v / max(1, running) for k, v in more.items()}) for _ in range(running)
    )
    return Demand(now_s, running, wanted, 1, 20, replicas)


def course(
    loads: list[float], *, wanted: int = 1, startup_ticks: int = 20, rules: ScalingRules = RULES
) -> list[Decision]:
    """One decision a second, each carried out after `startup_ticks` (upwards) or at once."""
    state, running, due = PolicyState(), wanted, 0
    decisions = []
    for second, load in enumerate(loads):
        if running < wanted and second >= due:
            running = wanted
        running = min(running, wanted)
        decision = decide(demand(float(second), wanted, load, running=running), state, rules)
        if decision.num_replicas > wanted:
            due = second + startup_ticks
        wanted, state = decision.num_replicas, decision.state
        decisions.append(decision)
    return decisions


@given(demands, states)
def test_never_outside_its_bounds(now: Demand, state: PolicyState) -> None:
    decision = decide(now, state)
    assert now.lowest <= decision.num_replicas <= max(now.lowest, now.highest)
    assert decision.num_replicas >= max(now.lowest, min(now.num_wanted, now.highest) - 1)


@given(demands, states, st.integers(0, 19), amounts, amounts, amounts)
def test_more_load_never_means_fewer_replicas(
    now: Demand, state: PolicyState, index: int, waiting: float, offline: float, arriving: float
) -> None:
    if not now.replicas:
        return
    index %= len(now.replicas)
    one = now.replicas[index]
    more = replace(
        one,
        waiting_audio_s=one.waiting_audio_s + waiting,
        waiting_recording_audio_s=one.waiting_recording_audio_s + offline,
        arriving=one.arriving + arriving,
    )
    loaded = replace(now, replicas=[*now.replicas[:index], more, *now.replicas[index + 1 :]])
    assert decide(loaded, state).num_replicas >= decide(now, state).num_replicas


@pytest.mark.slow
@given(
    st.floats(0, 700, allow_nan=False),
    st.integers(1, 20),
    st.integers(0, 60),
    st.integers(0, 1_000_000),
)
def test_a_constant_load_is_not_answered_up_and_down_in_turn(
    load: float, wanted: int, startup_ticks: int, seed: int
) -> None:
    dice = random.Random(seed)
    decisions = course(
        [load * dice.uniform(0.9, 1.1) for _ in range(600)], wanted=wanted, startup_ticks=startup_ticks
    )
    numbers = [decision.num_replicas for decision in decisions]
    changes = [
        later - earlier
        for earlier, later in zip([wanted, *numbers], numbers, strict=False)
        if later != earlier
    ]
    turns = sum(a * b < 0 for a, b in zip(changes, changes[1:], strict=False))
    assert turns <= 1
    assert decisions[-1].state.num_flaps == 0


@given(demands, states)
def test_the_state_survives_as_a_dict(now: Demand, state: PolicyState) -> None:
    after = decide(now, state).state
    assert PolicyState.from_dict(after.to_dict()) == after


def test_a_ramp_is_answered_before_the_replica_is_full() -> None:
    """From idle to three replicas' worth in two minutes; nothing waits yet when the first decision falls."""
    decisions = course([float(second) for second in range(120)])
    first = next(index for index, decision in enumerate(decisions) if decision.changes > 0)
    assert decisions[first].reason is Reason.FORECAST
    assert decisions[first].arriving < 0.75 * CAPACITY
    assert [d.num_replicas for d in decisions][-1] >= math.ceil(119 / (CAPACITY * RULES.up_share))


def test_after_a_ramp_it_returns_to_the_minimum_without_flapping() -> None:
    up, down = list(range(0, 200, 2)), list(range(200, 0, -2))
    decisions = course([float(load) for load in [*up, *down, *[0] * 2_000]])
    numbers = [decision.num_replicas for decision in decisions]
    peak = numbers.index(max(numbers))
    assert max(numbers) >= 6
    assert numbers[:peak] == sorted(numbers[:peak])
    assert numbers[peak:] == sorted(numbers[peak:], reverse=True)
    assert numbers[-1] == 1
    assert decisions[-1].state.num_flaps == 0
    assert decisions[-1].state.num_down == max(numbers) - 1


def test_downwards_one_at_a_time_and_a_quiet_time_apart() -> None:
    decisions = course([0.0] * 1_000, wanted=5)
    when = [index for index, decision in enumerate(decisions) if decision.changes]
    assert [decisions[index].changes for index in when] == [-1] * 4
    assert all(later - earlier >= RULES.quiet_s for earlier, later in zip(when, when[1:], strict=False))


def test_what_waits_too_long_asks_for_one_more() -> None:
    late = demand(10.0, 2, 10.0, waiting_audio_s=2.1 * CAPACITY)
    decision = decide(late, PolicyState())
    assert (decision.num_replicas, decision.reason) == (3, Reason.BACKLOG)
    on_the_way = replace(late, num_wanted=3)
    assert decide(on_the_way, decision.state).num_replicas == 3


def test_recordings_alone_count_by_what_waits_of_them() -> None:
    some = demand(10.0, 1, 0.0, waiting_recording_audio_s=CAPACITY * 0.7 * RULES.recordings_drain_s)
    assert decide(some, PolicyState()).num_replicas == 1
    many = demand(10.0, 1, 0.0, waiting_recording_audio_s=CAPACITY * 1.4 * RULES.recordings_drain_s)
    decision = decide(many, PolicyState())
    assert (decision.num_replicas, decision.reason) == (2, Reason.RECORDINGS)


def test_at_most_twice_as_many_at_a_time() -> None:
    assert decide(demand(10.0, 3, 18 * CAPACITY), PolicyState()).num_replicas == 6


def test_a_replica_without_a_speed_yet_is_taken_for_one_like_the_others() -> None:
    fast = ReplicaFigures(arriving=60.0, capacity=100.0)
    new = ReplicaFigures()
    decision = decide(Demand(10.0, 2, 2, 1, 20, (fast, new)), PolicyState())
    assert decision.num_replicas == 2
    assert decision.capacity_per_replica == 100.0


def test_without_any_speed_a_guess_serves() -> None:
    unknown = ReplicaFigures(arriving=RULES.unknown_capacity)
    assert decide(Demand(10.0, 1, 1, 1, 20, (unknown,)), PolicyState()).num_replicas == 2


def test_nothing_is_taken_away_while_figures_are_missing() -> None:
    state = PolicyState()
    for second in range(0, 1_000, 10):
        silent = Demand(float(second), 3, 3, 1, 20, (ReplicaFigures(capacity=CAPACITY),) * 2)
        decision = decide(silent, state)
        assert (decision.num_replicas, decision.reason) == (3, Reason.FIGURES_MISSING)
        state = decision.state


@pytest.mark.parametrize(("wanted", "lowest", "expected"), [(0, 0, 0), (0, 2, 2), (3, 1, 3)])
def test_no_replica_runs(wanted: int, lowest: int, expected: int) -> None:
    assert decide(Demand(10.0, 0, wanted, lowest, 20), PolicyState()).num_replicas == expected


def test_the_need_beyond_the_bound_is_said() -> None:
    decision = decide(replace(demand(10.0, 4, 20 * CAPACITY), highest=4), PolicyState())
    assert (decision.num_replicas, decision.reason, decision.changes) == (4, Reason.BOUNDS, 0)


def test_a_decision_that_is_carried_out_late_counts_once_and_holds() -> None:
    state = PolicyState()
    for second in range(30):
        decision = decide(demand(float(second), 1, 50.0), state)
        assert decision.num_replicas == 2
        state = decision.state
    assert state.num_up == 1
    for second in range(30, 30 + int(RULES.quiet_s) + 200):
        decision = decide(demand(float(second), 2, 1.0), state)
        state = decision.state
    assert (decision.num_replicas, decision.changes, state.num_down) == (1, 0, 1)


def test_a_way_up_soon_after_a_way_down_is_counted() -> None:
    state = PolicyState()
    for second in range(int(RULES.quiet_s) + 2):
        decision = decide(demand(float(second), 2, 0.0), state)
        state = decision.state
    assert decision.num_replicas == 1
    soon = decide(demand(130.0, 1, 2 * CAPACITY), state)
    assert soon.state.num_flaps == 1


def test_a_clock_that_jumps_back_does_no_harm() -> None:
    state = decide(demand(1_000.0, 2, 10.0), PolicyState()).state
    decision = decide(demand(10.0, 2, 10.0), state)
    assert decision.num_replicas == 2


def test_senseless_state_is_begun_anew() -> None:
    kept = {"usual": math.nan, "updated_s": "late", "num_up": 2.0, "num_wanted": math.inf, "other": 1}
    assert PolicyState.from_dict(kept) == PolicyState(num_up=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"up_share": 0.4},
        {"up_share": 1.2},
        {"quiet_s": 0},
        {"startup_s": math.nan},
        {"drain_s": "soon"},
        {"max_step": 1},
        {"max_forecast": 0.5},
    ],
)
def test_impossible_rules(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        ScalingRules(**wrong)
