"""Work that hangs is noticed, and time in which nothing could run is not held against it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fakes.fake_time import FakeClock
from serve_app.core.watch import MAX_STEP_S, WorkWatch


def test_work_within_its_limit_and_over_it() -> None:
    clock = FakeClock()
    watch = WorkWatch(clock)
    slow, quick = watch.begin("a slow one", 60), watch.begin("a quick one", 12)
    for _ in range(2):
        clock.pass_s(5)
        assert watch.look() == ""
    watch.end(quick)
    for _ in range(10):
        clock.pass_s(5)
        assert watch.look() == ""
    clock.pass_s(5)
    assert watch.look() == "a slow one has taken over 60 s"
    watch.end(slow)
    assert watch.look() == ""


def test_progress_begins_the_time_anew() -> None:
    clock = FakeClock()
    watch = WorkWatch(clock)
    key = watch.begin("it", 12)
    for _ in range(10):
        clock.pass_s(10)
        assert watch.look() == ""
        watch.progressed(key)


def test_a_machine_that_stood_still_is_not_the_fault_of_the_work() -> None:
    clock = FakeClock()
    watch = WorkWatch(clock)
    watch.begin("it", 25)
    clock.pass_s(3600)
    assert watch.look() == ""
    clock.pass_s(3600)
    assert watch.look() == ""
    clock.pass_s(3600)
    assert watch.look()


@given(st.lists(st.floats(0.1, MAX_STEP_S), min_size=1), st.floats(0, MAX_STEP_S), st.floats(1, 300))
def test_where_looks_are_regular_an_age_is_the_time_since_the_begin(
    steps: list[float], before_s: float, limit_s: float
) -> None:
    clock = FakeClock()
    watch = WorkWatch(clock)
    clock.pass_s(before_s)  # since the last look
    watch.begin("it", limit_s)
    age_s = 0.0
    for step_s in steps:
        later_s = max(0.0, step_s - before_s) if age_s == 0 else step_s
        clock.pass_s(later_s)
        age_s += later_s
        overdue = bool(watch.look())
        if abs(age_s - limit_s) > 1e-6:
            assert overdue == (age_s > limit_s)
