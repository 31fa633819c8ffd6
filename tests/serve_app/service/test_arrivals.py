"""How late a text is: since the audio that it needed was there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_app.service.arrivals import MAX_MARKS, Arrivals


def arrived(*marks: tuple[int, float]) -> Arrivals:
    arrivals = Arrivals()
    for sample, now_s in marks:
        arrivals.mark(sample, now_s)
    return arrivals


def test_the_piece_that_held_the_last_sample_needed() -> None:
    arrivals = arrived((1_600, 10.0), (3_200, 10.1), (4_800, 10.2))
    assert arrivals.since(3_200, 11.0) == 11.0 - 10.1
    assert arrivals.since(3_201, 11.0) == 11.0 - 10.2
    assert arrivals.since(1, 11.0) == 1.0


def test_what_has_not_arrived_has_no_lateness() -> None:
    assert Arrivals().since(0, 1.0) is None
    assert arrived((1_600, 10.0)).since(1_601, 11.0) is None


def test_a_request_to_close_counts_from_when_it_is_made() -> None:
    arrivals = arrived((1_600, 10.0), (3_200, 10.1), (3_200, 14.0))
    assert arrivals.since(3_200, 14.5) == 0.5
    assert arrivals.since(1_600, 14.5) == 4.5


def test_tiny_pieces_share_the_time_of_their_first() -> None:
    arrivals = arrived(*((160 * number, 10.0 + 0.001 * number) for number in range(1, 40)))
    assert arrivals.since(160, 11.0) == 11.0 - 10.001
    late_s = arrivals.since(160 * 39, 11.0)
    assert late_s is not None
    assert 11.0 - 10.039 <= late_s <= 11.0 - 10.029


def test_what_nobody_asks_for_is_forgotten() -> None:
    arrivals = arrived((1_600, 10.0), (3_200, 10.1), (4_800, 10.2))
    arrivals.forget(3_200)
    assert arrivals.since(100, 11.0) == 11.0 - 10.1


@given(st.integers(1, 3 * MAX_MARKS))
def test_it_is_bounded_and_knows_the_newest(num_marks: int) -> None:
    arrivals = arrived(*((number, float(number)) for number in range(num_marks)))
    assert len(arrivals._samples) == len(arrivals._times_s) <= MAX_MARKS
    assert arrivals.since(num_marks - 1, num_marks + 0.5) == 1.5
