"""The meter: rates that forget, and the capacity of full batches from small ones."""

from __future__ import annotations

import pytest

from serve_app.capacity.meter import (
    ARRIVAL_TIME_S,
    WANTED_INTERIM_S,
    Figures,
    SpeedMeter,
    demand_s,
)


def test_nothing_is_known_at_first() -> None:
    assert SpeedMeter(2, 1).figures(100.0) == Figures(0.0, 0.0)


def test_a_steady_stream_is_measured_soon_and_forgotten_later() -> None:
    meter = SpeedMeter(1, 1)
    for second in range(100, 160):
        meter.arrived(3.0, float(second))
        if second >= 105:
            assert meter.figures(float(second)).arriving == pytest.approx(3.0, rel=0.45)
    assert meter.figures(159.5).arriving == pytest.approx(3.0, rel=0.1)
    assert meter.figures(159.5 + 10 * ARRIVAL_TIME_S).arriving < 0.001


def test_the_first_job_is_not_taken_for_a_rate() -> None:
    meter = SpeedMeter(1, 1)
    meter.arrived(5.0, 50.0)
    assert meter.figures(50.0).arriving < 1.5


def test_speed_is_audio_over_busy_time_on_all_workers() -> None:
    meter = SpeedMeter(2, 1)
    for index in range(10):
        meter.decoded(1, 4.0, 0.2, float(index), live=True)
    assert meter.figures(10.0).capacity == pytest.approx(2 * 20.0)


def test_one_batch_is_no_measurement() -> None:
    meter = SpeedMeter(2, 1)
    meter.decoded(1, 4.0, 0.2, 1.0, live=True)
    assert meter.figures(2.0).capacity == 0.0


def test_small_batches_tell_what_full_ones_will_do() -> None:
    """50 ms a batch and 10 ms an audio second: eight items of 2 s take 0.21 s."""
    meter = SpeedMeter(1, 8)
    for index in range(40):
        num_items = 1 + index % 2
        audio_s = 2.0 * num_items
        meter.decoded(num_items, audio_s, 0.05 + 0.01 * audio_s, float(index), live=True)
    assert meter.figures(40.0).capacity == pytest.approx(16 / 0.21, rel=0.02)


def test_noise_never_makes_a_batch_free_or_negative() -> None:
    meter = SpeedMeter(1, 16)
    for index in range(20):  # longer batches that took less time
        meter.decoded(1, 1.0 + index % 3, 0.3 - 0.05 * (index % 3), float(index), live=True)
    mean_busy_s, mean_audio_s = 0.25, 2.0
    assert 0 < meter.figures(20.0).capacity <= 16 * mean_audio_s / mean_busy_s * 1.2


def test_recordings_count_only_where_nobody_was_live() -> None:
    meter = SpeedMeter(1, 1)
    for index in range(5):
        meter.decoded(1, 30.0, 0.3, float(index), live=False)
    assert meter.figures(5.0) == Figures(0.0, pytest.approx(100.0))
    for index in range(5, 10):
        meter.decoded(1, 2.0, 0.1, float(index), live=True)
    assert meter.figures(10.0).capacity == pytest.approx(20.0)


def test_the_last_speed_outlives_a_pause() -> None:
    meter = SpeedMeter(1, 1)
    for index in range(5):
        meter.decoded(1, 2.0, 0.1, float(index), live=True)
    before = meter.figures(5.0).capacity
    meter.decoded(1, 2.0, 0.2, 3_600.0, live=True)
    assert meter.figures(3_600.0).capacity == before


@pytest.mark.parametrize(("items", "audio_s", "busy_s"), [(0, 1.0, 1.0), (1, 0.0, 1.0), (1, 1.0, 0.0)])
def test_batches_that_say_nothing_are_left_out(items: int, audio_s: float, busy_s: float) -> None:
    meter = SpeedMeter(1, 1)
    for index in range(5):
        meter.decoded(items, audio_s, busy_s, float(index), live=True)
    assert meter.figures(5.0).capacity == 0.0


def test_interims_that_come_sooner_than_need_be_ask_for_no_more() -> None:
    """However often an idle service lets them come, an utterance asks for the same audio per second."""
    rates = [demand_s(8.0, interval_s) / interval_s for interval_s in (0.1, 0.3, WANTED_INTERIM_S)]
    assert rates == pytest.approx([8.0 / WANTED_INTERIM_S] * 3)
    assert demand_s(8.0, 2.0) / 2.0 == 4.0
    assert demand_s(8.0) == 8.0
    assert demand_s(8.0, -1.0) == 0.0
