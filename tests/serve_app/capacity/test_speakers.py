"""How many may talk at once: the measured speed, the cores that the service shares, and what people do."""

from __future__ import annotations

import pytest

from serve_app.capacity.speakers import SpeakerEstimate, Speed, speakers_at_once

TINY = Speed(at_start=34.0, cpu_s=0.058)
"""Two cores, `tiny.en`."""


def test_two_cores_hold_what_was_measured_on_two_cores() -> None:
    assert 18 <= speakers_at_once(TINY, cores=2) <= 26


def test_nothing_measured_is_not_known() -> None:
    assert speakers_at_once(Speed(0.0, 0.0), cores=2) == 0


def test_a_slow_machine_holds_one() -> None:
    assert speakers_at_once(Speed(0.3, 3.0), cores=1) == 1


def test_under_a_quota_all_of_the_service_has_less() -> None:
    third = speakers_at_once(Speed(34.0 / 3, 0.058), cores=2)
    slower_model = speakers_at_once(Speed(34.0 / 3, 0.174), cores=2)
    assert third < slower_model
    assert third == pytest.approx(speakers_at_once(TINY, cores=2) / 3, abs=2)


def test_on_a_card_only_the_decoding_counts() -> None:
    assert speakers_at_once(Speed(200.0, 0.001), cores=None) == 149


def test_who_talks_less_leaves_room_for_more() -> None:
    quiet, loud = SpeakerEstimate(2.0, 0.0), SpeakerEstimate(2.0, 0.0)
    for second in range(1, 1_000):
        for estimate, share in ((quiet, 0.4), (loud, 0.95)):
            estimate.passed(10, float(second))
            estimate.heard(10 * share)
    assert 0.4 < quiet.speech_share < 0.6
    assert 0.87 < loud.speech_share < 0.95
    assert quiet.speakers(TINY, 10) > 1.3 * loud.speakers(TINY, 10)


def test_silent_sessions_are_believed_only_so_far() -> None:
    estimate = SpeakerEstimate(2.0, 0.0)
    for second in range(1, 1_000):
        estimate.passed(10, float(second))
    assert 0.25 < estimate.speech_share < 0.35


def test_a_crowd_that_has_not_spoken_yet_is_not_taken_for_a_silent_one() -> None:
    """Or twice as many would be let in, in the seconds before the first finals."""
    estimate = SpeakerEstimate(2.0, 0.0)
    most = estimate.speakers(TINY, 0)
    for second in range(1, 6):
        estimate.passed(20, float(second))
        assert estimate.speakers(TINY, 20) <= 1.15 * most


def test_an_idle_service_forgets_nothing() -> None:
    estimate = SpeakerEstimate(2.0, 0.0)
    before = estimate.speech_share
    estimate.passed(0, 1e6)
    assert estimate.speech_share == before


def test_a_neighbour_that_takes_the_cores_takes_speakers() -> None:
    estimate = SpeakerEstimate(2.0, 0.0)
    alone = estimate.speakers(TINY, 4)
    own_load = estimate.speakers(Speed(34.0, 0.058, of_late=30.0), 4)
    neighbour = estimate.speakers(Speed(34.0, 0.058, of_late=14.0), 4)
    assert own_load == alone
    assert neighbour < 0.6 * alone
