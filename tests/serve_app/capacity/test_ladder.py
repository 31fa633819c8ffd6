"""What gives way under load: in order, at once, and back again without swinging."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.capacity.ladder import HOLD_S, LEAST_SHARE, Ladder, LadderLimits, Rung

LIMITS = LadderLimits(num_workers=2, max_total_ms=500)


class Drive:
    """A ladder whose finals wait as long as the test says, looked at ten times a second."""

    def __init__(self, limits: LadderLimits = LIMITS) -> None:
        self.ladder = Ladder(limits, 0.0)
        self.now_s = 0.0

    def go(self, seconds: float, wait_ms: float | None, *, finals: int = 0, interims: int = 0) -> list[Rung]:
        """The rungs it was on. None: no finals come."""
        seen = []
        for _ in range(round(seconds * 10)):
            self.now_s += 0.1
            if wait_ms is not None:
                self.ladder.final_answered(wait_ms, 100.0, 4.0, self.now_s)
            rung = self.ladder.step(self.now_s, num_finals=finals, backlog_s=0.0, num_interims=interims)
            seen.append(rung)
        return seen


@pytest.mark.parametrize(
    ("wait_ms", "rung", "level"),
    [
        (0, Rung.NORMAL, "normal"),
        (60, Rung.INTERIMS_SLOWER, "high"),
        (120, Rung.INTERIMS_SHORTER, "high"),
        (200, Rung.NO_SPECULATION, "high"),
        (280, Rung.NO_INTERIMS, "critical"),
        (360, Rung.SMALLER_FINALS, "critical"),
        (450, Rung.FULL, "critical"),
    ],
)
def test_each_wait_has_its_rung(wait_ms: float, rung: Rung, level: str) -> None:
    drive = Drive()
    assert drive.go(10, wait_ms)[-1] is rung
    assert drive.ladder.level == level
    assert drive.ladder.estimated_ms == pytest.approx(wait_ms + 100, rel=0.05)


def test_a_growing_wait_climbs_every_rung_in_order() -> None:
    drive = Drive()
    seen = [rung for wait_ms in range(0, 600, 10) for rung in drive.go(0.5, wait_ms)]
    assert seen == sorted(seen)
    assert set(seen) == set(Rung)


def test_interims_give_up_their_share_on_the_way() -> None:
    shares = []
    for wait_ms in (0, 60, 120, 200):
        drive = Drive()
        drive.go(10, wait_ms)
        shares.append(drive.ladder.relief)
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == LEAST_SHARE


def test_a_burst_that_is_over_within_a_tick_is_no_load() -> None:
    drive = Drive()
    drive.ladder.final_answered(0.0, 100.0, 4.0, 0.0)
    drive.now_s = 0.1
    assert drive.ladder.step(0.1, num_finals=5, backlog_s=20.0) <= Rung.INTERIMS_SLOWER
    assert drive.go(1.0, 0.0)[-1] <= Rung.INTERIMS_SLOWER


def test_a_queue_is_seen_before_its_finals_come_back_late() -> None:
    drive = Drive()
    drive.ladder.final_answered(0.0, 100.0, 4.0, 0.0)  # 25 ms a second of audio
    for tick in range(1, 60):
        drive.ladder.step(tick / 10, num_finals=5, backlog_s=48.0)  # 600 ms for two workers
    assert drive.ladder.rung is Rung.FULL


def test_a_recogniser_that_does_not_answer_is_load() -> None:
    drive = Drive()
    drive.ladder.final_answered(0.0, 100.0, 4.0, 0.0)
    for tick in range(1, 60):
        drive.ladder.step(tick / 10, num_finals=3, backlog_s=0.0, oldest_s=tick / 10)
    assert drive.ladder.rung is Rung.FULL


def test_a_slow_machine_with_nothing_waiting_is_not_full() -> None:
    """A decode that takes longer than the limit says nothing of load."""
    ladder = Ladder(LIMITS, 0.0)
    for tick in range(1, 100):
        ladder.final_answered(0.0, 2_000.0, 4.0, tick / 10)
        assert ladder.step(tick / 10, num_finals=1, backlog_s=4.0) is Rung.NORMAL
    assert ladder.estimated_ms == pytest.approx(2_000, rel=0.01)


def test_it_is_left_one_rung_after_the_other() -> None:
    drive = Drive()
    drive.go(10, 450)
    seen = drive.go(30, None)
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == set(Rung)
    for rung in set(Rung) - {Rung.FULL, Rung.NORMAL}:
        assert seen.count(rung) >= HOLD_S * 10 - 1


def test_without_a_look_for_long_it_is_left_at_once() -> None:
    drive = Drive()
    drive.go(10, 450)
    assert drive.ladder.step(drive.now_s + 60, num_finals=0, backlog_s=0.0) is Rung.NORMAL


def test_a_load_at_the_edge_does_not_swing() -> None:
    drive = Drive()
    drive.go(10, 280)
    seen = [rung for _ in range(20) for wait_ms in (230, 260) for rung in drive.go(1.0, wait_ms)]
    assert set(seen) == {Rung.NO_INTERIMS}


@pytest.mark.parametrize(
    ("finals", "interims", "rung", "level"),
    [
        (5, 0, Rung.NORMAL, "normal"),
        (6, 0, Rung.NO_SPECULATION, "high"),
        (12, 0, Rung.NO_INTERIMS, "critical"),
        (0, 19, Rung.NORMAL, "normal"),
        (0, 20, Rung.INTERIMS_SLOWER, "high"),
        (0, 40, Rung.NO_SPECULATION, "critical"),
    ],
)
def test_watermarks(finals: int, interims: int, rung: Rung, level: str) -> None:
    drive = Drive()
    assert drive.go(5, None, finals=finals, interims=interims)[-1] is rung
    assert drive.ladder.level == level


@pytest.mark.parametrize("wrong", [{"final_high": 7, "final_critical": 6}, {"interim_high": 0}])
def test_watermarks_in_the_wrong_order(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="watermark"):
        LadderLimits(**wrong)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100), st.integers(0, 100), st.floats(0, 1000), st.floats(0, 5000), st.floats(0, 60)
        ),
        max_size=60,
    )
)
def test_whatever_happens_quiet_brings_it_back(history: list[tuple[float, int, float, float, float]]) -> None:
    ladder, now_s = Ladder(LIMITS, 0.0), 0.0
    for elapsed_s, finals, backlog_s, wait_ms, oldest_s in history:
        now_s += elapsed_s
        ladder.final_answered(wait_ms, 50.0, 3.0, now_s)
        rung = ladder.step(now_s, num_finals=finals, backlog_s=backlog_s, oldest_s=oldest_s)
        assert LEAST_SHARE <= ladder.relief <= 1.0
        assert ladder.estimated_ms >= 0
        assert rung in Rung
    for _ in range(600):
        now_s += 0.1
        ladder.step(now_s, num_finals=0, backlog_s=0.0)
    assert ladder.rung is Rung.NORMAL
    assert ladder.relief == pytest.approx(1.0)
