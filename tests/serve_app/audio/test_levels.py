from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.audio.levels import LevelLimits, LevelMeter, LevelProblem, LevelWarning
from serve_app.core.samples import Pcm16

RATE_HZ = 16_000
SECOND = RATE_HZ


def noise(level_dbfs: float, seconds: float, seed: int = 0) -> Pcm16:
    rms = 32_768 * 10 ** (level_dbfs / 20)
    samples = np.random.default_rng(seed).normal(0, rms, round(seconds * RATE_HZ))
    return np.rint(samples).clip(-32_767 + 1, 32_767 - 1).astype(np.int16)


def clipped(samples: Pcm16, gain: float) -> Pcm16:
    return (samples * gain).clip(-32_768, 32_767).astype(np.int16)


def talk(level_dbfs: float, seconds: float, background_dbfs: float = -75.0) -> Pcm16:
    """Syllables of 300 ms at the level, pauses of 200 ms between them."""
    open_mouth = np.arange(round(seconds * RATE_HZ)) % (RATE_HZ // 2) < 0.3 * RATE_HZ
    return np.where(open_mouth, noise(level_dbfs, seconds), noise(background_dbfs, seconds, 1))


def silence(seconds: float) -> Pcm16:
    return np.zeros(round(seconds * RATE_HZ), np.int16)


def warnings_of(*parts: Pcm16, limits: LevelLimits | None = None) -> list[LevelWarning]:
    meter = LevelMeter(limits=limits)
    return [warning for part in parts for warning in meter.push(part)]


def kinds_of(*parts: Pcm16) -> list[LevelProblem]:
    return [warning.kind for warning in warnings_of(*parts)]


def test_good_speech_gives_no_warning() -> None:
    assert warnings_of(noise(-25, 20.0)) == []


def test_levels_of_the_newest_second() -> None:
    meter = LevelMeter()
    assert meter.levels is None
    meter.push(noise(-10, 3.0))
    square = np.tile(np.array([16_384, -16_384], np.int16), SECOND // 2)
    meter.push(square)
    levels = meter.levels
    assert levels is not None
    assert (levels.peak_dbfs, levels.rms_dbfs) == (pytest.approx(-6.02, abs=0.01),) * 2
    assert (levels.clipped_share, levels.dc_offset) == (0.0, 0.0)


def test_levels_of_nothing_are_finite() -> None:
    meter = LevelMeter()
    meter.push(silence(1.0))
    levels = meter.levels
    assert levels is not None
    assert (levels.peak_dbfs, levels.rms_dbfs) == (-120.0, -120.0)


def test_clipping_is_said_once_and_again_after_it_has_passed() -> None:
    bad, good, pause = clipped(noise(-12, 3.0), 8.0), noise(-25, 12.0), noise(-60, 3.0)
    warnings = warnings_of(good, bad, pause, bad, good, bad)
    assert [warning.kind for warning in warnings] == [LevelProblem.CLIPPING] * 2
    first, second = warnings
    assert 11 * SECOND <= first.at_sample <= 12 * SECOND
    assert 32 * SECOND <= second.at_sample <= 33 * SECOND
    assert 0.001 < first.value < 1


def test_one_full_scale_peak_is_no_clipping() -> None:
    peaky = noise(-25, 3.0)
    peaky[SECOND] = 32_767
    peaky[2 * SECOND] = -32_768
    assert kinds_of(peaky) == []


def test_clipping_that_comes_and_goes_around_its_limit_is_said_once() -> None:
    wavering = []
    for num_clipped in (20, 12, 18, 10, 25):  # of 16,000: the limit is 16, forgotten at 4
        second = noise(-25, 1.0)
        second[np.arange(num_clipped) * 600] = 32_767
        wavering.append(second)
    assert kinds_of(*wavering) == [LevelProblem.CLIPPING]


@pytest.mark.parametrize("dead", [silence(6.0), noise(-75, 6.0)])
def test_dead_silence_is_said_from_where_it_began(dead: Pcm16) -> None:
    (warning,) = warnings_of(noise(-25, 2.0), dead)
    assert warning.kind is LevelProblem.DEAD_SILENCE
    assert warning.at_sample == 2 * SECOND
    assert warning.value < -70


def test_silence_that_is_too_short_or_a_quiet_room_is_not_dead() -> None:
    assert kinds_of(noise(-25, 2.0), silence(4.8), noise(-25, 1.0), silence(4.8)) == []
    assert kinds_of(noise(-25, 2.0), noise(-60, 8.0)) == []


def test_dead_silence_ends_with_sound_and_not_with_a_flicker() -> None:
    dead, flicker, speech = silence(6.0), noise(-68, 0.2), noise(-25, 1.0)
    assert kinds_of(dead, flicker, dead) == [LevelProblem.DEAD_SILENCE]
    assert kinds_of(dead, speech, dead) == [LevelProblem.DEAD_SILENCE] * 2


def test_the_wanted_length_of_silence_is_an_option() -> None:
    limits = LevelLimits(dead_silence_s=2.0)
    assert [w.kind for w in warnings_of(silence(2.0), limits=limits)] == [LevelProblem.DEAD_SILENCE]
    assert warnings_of(silence(1.9), limits=limits) == []


def test_a_level_that_stays_low_is_said_with_its_level() -> None:
    (warning,) = warnings_of(noise(-65, 1.0), talk(-50, 15.0))
    assert warning.kind is LevelProblem.LOW_LEVEL
    assert warning.value == pytest.approx(-50, abs=0.5)
    assert warning.at_sample == SECOND


def test_a_quiet_room_is_no_quiet_speaker() -> None:
    assert kinds_of(noise(-55, 60.0)) == []


def test_loud_syllables_among_quiet_make_a_good_level() -> None:
    turns = [part for _ in range(6) for part in (talk(-50, 4.0), talk(-30, 0.3))]
    assert kinds_of(*turns) == []


def test_a_low_level_passes_once_it_is_clearly_over_its_limit() -> None:
    low, nearly, good = talk(-50, 12.0), talk(-38, 12.0), talk(-30, 12.0)
    assert kinds_of(low, nearly, low) == [LevelProblem.LOW_LEVEL]
    assert kinds_of(low, good, low) == [LevelProblem.LOW_LEVEL] * 2


@pytest.mark.parametrize("offset", [2_000, -2_000])
def test_an_offset_has_its_sign(offset: int) -> None:
    (warning,) = warnings_of(noise(-30, 2.0), (noise(-30, 3.0) + offset).astype(np.int16))
    assert warning.kind is LevelProblem.DC_OFFSET
    assert np.sign(warning.value) == np.sign(offset)
    assert abs(warning.value) > 0.02


def test_hum_is_no_offset() -> None:
    hum = (8_000 * np.sin(2 * np.pi * 50 * np.arange(5 * SECOND) / RATE_HZ)).astype(np.int16)
    assert kinds_of(hum) == []


def test_an_offset_passes_and_comes_back() -> None:
    good, bad = noise(-30, 5.0), (noise(-30, 5.0) + 2_000).astype(np.int16)
    assert kinds_of(bad, good, bad) == [LevelProblem.DC_OFFSET] * 2


def test_what_is_wrong_now_is_readable() -> None:
    meter = LevelMeter()
    meter.push(silence(6.0))
    assert meter.problems == {LevelProblem.DEAD_SILENCE}
    meter.push(noise(-25, 1.0))
    assert meter.problems == frozenset()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 12 * SECOND), max_size=60), st.integers(0, 100))
def test_the_cutting_into_chunks_changes_nothing(cuts: list[int], seed: int) -> None:
    samples = np.concatenate([noise(-50, 3.0, seed), clipped(noise(-12, 2.0, seed), 8.0), silence(7.0)])
    whole = LevelMeter()
    wanted = whole.push(samples)
    assert {warning.kind for warning in wanted} == {LevelProblem.CLIPPING, LevelProblem.DEAD_SILENCE}
    meter = LevelMeter()
    edges = sorted({0, len(samples), *cuts})
    got = [warning for a, b in itertools.pairwise(edges) for warning in meter.push(samples[a:b])]
    assert got == wanted
    assert meter.levels == whole.levels


def test_empty_chunks_are_not_kept() -> None:
    meter = LevelMeter()
    for _ in range(1_000):
        meter.push(silence(0.0))
    assert meter._pending == []
    assert meter.levels is None


def test_other_rates() -> None:
    (warning,) = LevelMeter(8_000).push(silence(6.0))
    assert (warning.kind, warning.at_sample) == (LevelProblem.DEAD_SILENCE, 0)
    with pytest.raises(ValueError, match="rate_hz"):
        LevelMeter(0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"clipped_share": 0.0},
        {"dc_offset": 2.0},
        {"dead_silence_dbfs": -30.0},
        {"low_level_dbfs": 1.0},
        {"dead_silence_s": 0.0},
        {"low_level_s": 601.0},
    ],
)
def test_senseless_limits_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        LevelLimits(**arguments)
