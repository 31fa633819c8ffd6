from __future__ import annotations

import itertools
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.audio.conditioning import (
    MAX_BLOCK_SAMPLES,
    Conditioner,
    ConditioningOptions,
    normalise_peak,
)
from serve_app.core.samples import Pcm16

RATE_HZ = 16_000

EVERYTHING = ConditioningOptions(
    dc_removal=True,
    high_pass=True,
    auto_gain=True,
    compressor=True,
    compressor_makeup_db=6.0,
    limiter=True,
)
ONE_AT_A_TIME = [
    ConditioningOptions(dc_removal=True),
    ConditioningOptions(high_pass=True, high_pass_order=2),
    ConditioningOptions(high_pass=True, high_pass_hz=400.0),
    ConditioningOptions(gain_db=12.0),
    ConditioningOptions(auto_gain=True),
    ConditioningOptions(compressor=True, compressor_ratio=4.0),
    ConditioningOptions(limiter=True),
]


def tone(frequency_hz: float, amplitude: float, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> Pcm16:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.rint(amplitude * np.sin(2 * np.pi * frequency_hz * t)).astype(np.int16)


def talk(amplitude: float, seconds: float, seed: int = 0) -> Pcm16:
    """Noise in syllables of 150 ms, pauses of 100 ms between them, faint hiss underneath."""
    generator = np.random.default_rng(seed)
    num_samples = round(seconds * RATE_HZ)
    open_mouth = np.arange(num_samples) % (RATE_HZ // 4) < 0.15 * RATE_HZ
    sound = generator.normal(0, amplitude, num_samples) * open_mouth
    return (sound + generator.normal(0, amplitude / 100, num_samples)).clip(-32_768, 32_767).astype(np.int16)


def level_db(samples: Pcm16) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-9))


def conditioned(options: ConditioningOptions, samples: Pcm16) -> Pcm16:
    return Conditioner(options).process(samples)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([EVERYTHING, *ONE_AT_A_TIME]),
    st.lists(st.integers(0, 9_000), max_size=30),
    st.integers(0, 2**32 - 1),
    st.sampled_from([8_000, 16_000, 44_100]),
)
def test_the_cutting_into_chunks_changes_no_bit(
    options: ConditioningOptions, cuts: list[int], seed: int, rate_hz: int
) -> None:
    generator = np.random.default_rng(seed)
    loudness = generator.uniform(0, 1, 9_000 // 500).repeat(500)
    samples = (generator.uniform(-32_768, 32_768, 9_000) * loudness).astype(np.int16)
    whole = Conditioner(options, rate_hz).process(samples)
    conditioner = Conditioner(options, rate_hz)
    edges = sorted({0, len(samples), *cuts})
    pieces = [conditioner.process(samples[a:b]) for a, b in itertools.pairwise(edges)]
    assert [len(piece) for piece in pieces] == [b - a for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("options", [EVERYTHING, *ONE_AT_A_TIME])
def test_sample_by_sample_is_the_same_too(options: ConditioningOptions) -> None:
    samples = talk(9_000, 0.2)
    conditioner = Conditioner(options)
    pieces = [conditioner.process(samples[index : index + 1]) for index in range(len(samples))]
    np.testing.assert_array_equal(np.concatenate(pieces), conditioned(options, samples))


def test_a_recording_longer_than_a_block() -> None:
    samples = talk(9_000, (MAX_BLOCK_SAMPLES + 1_234) / RATE_HZ)
    conditioner = Conditioner(EVERYTHING)
    halves = [conditioner.process(half) for half in np.array_split(samples, 2)]
    np.testing.assert_array_equal(conditioned(EVERYTHING, samples), np.concatenate(halves))


def test_nothing_is_done_by_default() -> None:
    samples = talk(9_000, 0.1)
    options = ConditioningOptions()
    assert not options.any
    assert conditioned(options, samples) is samples
    assert all(each.any for each in (EVERYTHING, *ONE_AT_A_TIME))


@pytest.mark.parametrize("options", [EVERYTHING, *ONE_AT_A_TIME])
def test_empty_and_silent_audio(options: ConditioningOptions) -> None:
    conditioner = Conditioner(options)
    assert conditioner.process(np.zeros(0, np.int16)).dtype == np.int16
    silence = np.zeros(5 * RATE_HZ, np.int16)
    np.testing.assert_array_equal(conditioner.process(silence), silence)


@pytest.mark.parametrize("options", [EVERYTHING, *ONE_AT_A_TIME, ConditioningOptions(gain_db=60.0)])
@pytest.mark.parametrize("frequency_hz", [1_500.0, 3_000.0])
def test_nothing_wraps_at_full_scale(options: ConditioningOptions, frequency_hz: float) -> None:
    loud = np.where(tone(frequency_hz, 1_000, 2.0) >= 0, 32_767, -32_768).astype(np.int16)
    middle = slice(RATE_HZ, 2 * RATE_HZ)
    got = conditioned(options, loud)[middle].astype(np.float64)
    # A wrap would turn the sign; the filters hardly shift these frequencies.
    alike = np.corrcoef(got, loud[middle])[0, 1]
    assert alike > 0.8


def test_the_offset_is_removed_and_the_sound_stays() -> None:
    sound = tone(300, 3_000, 3.0)
    got = conditioned(ConditioningOptions(dc_removal=True), (sound + 4_000).astype(np.int16))
    settled = slice(RATE_HZ, None)
    assert abs(got[settled].mean()) < 5
    assert level_db(got[settled]) == pytest.approx(level_db(sound), abs=0.05)


@pytest.mark.parametrize(
    ("order", "frequency_hz", "wanted_db"),
    [
        # |H|^2 of a Butterworth of order n: 1 / (1 + (fc/f)^2n)
        (2, 80, -3.01),
        (4, 80, -3.01),
        (2, 40, -12.30),
        (4, 40, -24.10),
        (4, 50, -16.43),
        (2, 1_000, 0.0),
        (4, 1_000, 0.0),
        (4, 6_000, 0.0),
    ],
)
def test_the_high_pass_is_a_butterworth(order: int, frequency_hz: float, wanted_db: float) -> None:
    sound = tone(frequency_hz, 16_000, 3.0)
    got = conditioned(ConditioningOptions(high_pass=True, high_pass_order=order), sound)
    settled = slice(2 * RATE_HZ, None)
    assert level_db(got[settled]) - level_db(sound[settled]) == pytest.approx(wanted_db, abs=0.1)


def test_the_filters_wait_for_nothing() -> None:
    click = np.zeros(1_000, np.int16)
    click[500] = 20_000
    for options in ONE_AT_A_TIME:
        got = conditioned(options, click)
        assert not got[:500].any()
        assert got[500] > 15_000


def test_a_fixed_gain() -> None:
    sound = tone(300, 1_000)
    got = conditioned(ConditioningOptions(gain_db=20.0), sound)
    np.testing.assert_allclose(got, sound * 10.0, atol=1)
    assert conditioned(ConditioningOptions(gain_db=40.0), sound).max() == 32_767


@pytest.mark.parametrize("amplitude", [60, 600, 9_000])
def test_automatic_gain_brings_speech_to_its_target(amplitude: float) -> None:
    got = conditioned(ConditioningOptions(auto_gain=True, auto_gain_max_db=40.0), talk(amplitude, 8.0))
    spoken = got[-RATE_HZ // 4 :][: round(0.15 * RATE_HZ)]
    assert level_db(spoken) - 20 * np.log10(32_768) == pytest.approx(-23, abs=1.0)


def test_automatic_gain_is_bounded() -> None:
    quiet = talk(100, 8.0)
    got = conditioned(ConditioningOptions(auto_gain=True, auto_gain_max_db=12.0), quiet)
    assert level_db(got[-RATE_HZ:]) - level_db(quiet[-RATE_HZ:]) == pytest.approx(12, abs=0.2)


def test_automatic_gain_keeps_still_in_a_pause_and_does_not_lift_noise() -> None:
    hiss = np.random.default_rng(1).normal(0, 6, 10 * RATE_HZ).astype(np.int16)
    conditioner = Conditioner(ConditioningOptions(auto_gain=True))
    np.testing.assert_array_equal(conditioner.process(hiss), hiss)
    conditioner.process(talk(600, 8.0))
    first, last = conditioner.process(hiss[: RATE_HZ // 2]), conditioner.process(hiss)[-RATE_HZ:]
    assert level_db(last) == pytest.approx(level_db(first), abs=0.5)


def test_automatic_gain_moves_slowly() -> None:
    options = ConditioningOptions(auto_gain=True)
    quiet = talk(100, 4.0)
    gain = conditioned(options, quiet).astype(float) / np.where(np.abs(quiet) > 50, quiet, np.nan)
    by_syllable = np.array([np.nanmedian(part) for part in np.array_split(gain, 16)])
    steps_db = np.diff(20 * np.log10(by_syllable))
    assert steps_db.max() <= 20 * 0.25
    assert steps_db.min() > -0.5


def test_the_compressor_lets_loud_parts_grow_by_its_ratio_only() -> None:
    options = ConditioningOptions(compressor=True, compressor_threshold_dbfs=-30.0, compressor_ratio=3.0)
    levels = []
    for level_dbfs in (-36.0, -18.0, -6.0):
        sound = tone(500, 32_768 * 10 ** (level_dbfs / 20))
        got = conditioned(options, sound)[RATE_HZ // 2 :]
        levels.append(20 * np.log10(got.max() / 32_768))
    assert levels[0] == pytest.approx(-36, abs=0.1)
    # The level that it follows stands somewhat below the peaks.
    assert levels[1] == pytest.approx(-30 + 12 / 3, abs=0.6)
    assert levels[2] - levels[1] == pytest.approx(12 / 3, abs=0.05)


def test_attack_release_and_makeup_of_the_compressor() -> None:
    options = ConditioningOptions(
        compressor=True,
        compressor_threshold_dbfs=-30.0,
        compressor_ratio=20.0,
        compressor_attack_ms=10.0,
        compressor_release_ms=200.0,
        compressor_makeup_db=6.0,
    )
    quiet = tone(1_000, 500, 1.0)
    sound = np.concatenate([quiet, tone(1_000, 20_000, 1.0), quiet])
    got = conditioned(options, sound)

    def gain_db(second: float) -> float:
        """Over 8 ms from there."""
        around = slice(round(second * RATE_HZ), round(second * RATE_HZ) + 128)
        return level_db(got[around]) - level_db(sound[around])

    settled_db = gain_db(1.9)
    assert gain_db(0.5) == pytest.approx(6.0, abs=0.1)
    assert settled_db == pytest.approx(6 - 0.95 * (30 - 4.3), abs=1.0)
    assert gain_db(1.0) > settled_db + 10
    assert gain_db(1.05) == pytest.approx(settled_db, abs=1.0)
    # The level falls to 1/e within one time constant after the loud part, by 8.7 dB.
    assert gain_db(2.2) - gain_db(2.0) == pytest.approx(0.95 * 8.686, abs=0.5)
    assert gain_db(2.9) == pytest.approx(6.0, abs=0.1)


def test_the_limiter_bends_and_does_not_clip() -> None:
    ramp = np.arange(-32_768, 32_768, dtype=np.int32).astype(np.int16)
    got = conditioned(ConditioningOptions(limiter=True, gain_db=6.0), ramp).astype(np.int32)
    assert (np.diff(got) >= 0).all()
    assert abs(got).max() < 32_767
    small = np.abs(ramp.astype(np.int32)) < 0.79 * 32_768 / 2
    np.testing.assert_allclose(got[small], ramp[small] * 10 ** (6 / 20), atol=1)


def test_peak_normalisation() -> None:
    quiet = tone(300, 1_000)
    assert normalise_peak(quiet).max() == round(32_768 * 10 ** (-1 / 20))
    assert normalise_peak(quiet, 0.0).max() == 32_767
    assert normalise_peak(quiet, -1.0, max_gain_db=6.0).max() == pytest.approx(1_000 * 10 ** (6 / 20), abs=1)
    lowest = np.array([-32_768, 5], np.int16)
    assert normalise_peak(lowest, -6.0).tolist() == [round(-32_768 * 10 ** (-6 / 20)), 3]


@pytest.mark.parametrize("samples", [np.zeros(0, np.int16), np.zeros(100, np.int16)])
def test_peak_normalisation_of_nothing(samples: Pcm16) -> None:
    assert normalise_peak(samples) is samples


def test_peak_normalisation_refuses_a_target_over_full_scale() -> None:
    with pytest.raises(ValueError, match="target_dbfs: expected -60 to 0, got 1"):
        normalise_peak(tone(300, 1_000), 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"high_pass_hz": 10.0}, "high_pass_hz: expected 20 to 400, got 10"),
        ({"high_pass_hz": float("nan")}, "high_pass_hz"),
        ({"high_pass_order": 3}, "high_pass_order: expected 2 or 4, got 3"),
        ({"gain_db": 61.0}, "gain_db"),
        ({"gain_db": 6.0, "auto_gain": True}, "at most one of them"),
        ({"auto_gain_target_dbfs": 0.0}, "auto_gain_target_dbfs"),
        ({"auto_gain_max_db": -1.0}, "auto_gain_max_db"),
        ({"compressor_threshold_dbfs": 1.0}, "compressor_threshold_dbfs"),
        ({"compressor_threshold_dbfs": -61.0}, "compressor_threshold_dbfs"),
        ({"compressor_ratio": 0.5}, "compressor_ratio"),
        ({"compressor_ratio": 21.0}, "compressor_ratio"),
        ({"compressor_attack_ms": 0.0}, "compressor_attack_ms"),
        ({"compressor_release_ms": 0.0}, "compressor_release_ms"),
        ({"compressor_attack_ms": 501.0}, "compressor_attack_ms"),
        ({"compressor_release_ms": 2_001.0}, "compressor_release_ms"),
        ({"compressor_makeup_db": -1.0}, "compressor_makeup_db"),
        ({"compressor_makeup_db": 31.0}, "compressor_makeup_db"),
    ],
)
def test_senseless_options_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditioningOptions(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bounds",
    [
        {"threshold_dbfs": -60, "ratio": 1, "attack_ms": 0.1, "release_ms": 1, "makeup_db": 0},
        {"threshold_dbfs": 0, "ratio": 20, "attack_ms": 500, "release_ms": 2_000, "makeup_db": 30},
    ],
)
@pytest.mark.parametrize("gain_db", [-60.0, 60.0])
@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_libavfilter_takes_all_that_the_bounds_allow(
    bounds: dict[str, float], gain_db: float, rate_hz: int
) -> None:
    options = ConditioningOptions(
        compressor=True, gain_db=gain_db, **{f"compressor_{name}": value for name, value in bounds.items()}
    )
    sound = talk(3_000, 0.1)
    assert len(Conditioner(options, rate_hz).process(sound)) == len(sound)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_conditioner_starts_no_threads() -> None:
    before = len(list(Path("/proc/self/task").iterdir()))
    conditioners = [Conditioner(EVERYTHING) for _ in range(20)]
    for conditioner in conditioners:
        conditioner.process(talk(3_000, 0.1))
    assert len(list(Path("/proc/self/task").iterdir())) == before


def test_options_do_not_change_and_rates_are_bounded() -> None:
    with pytest.raises(FrozenInstanceError):
        EVERYTHING.limiter = False  # type: ignore[misc]
    with pytest.raises(ValueError, match="rate_hz: expected 8000 to 48000, got 4000"):
        Conditioner(EVERYTHING, 4_000)


@pytest.mark.parametrize("cutoff_hz", [20.0, 400.0])
@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_every_allowed_cutoff_is_stable_at_every_allowed_rate(cutoff_hz: float, rate_hz: int) -> None:
    conditioner = Conditioner(ConditioningOptions(high_pass=True, high_pass_hz=cutoff_hz), rate_hz)
    conditioner.process(talk(20_000, 3.0))
    assert not conditioner.process(np.zeros(10 * rate_hz, np.int16))[-1_000:].any()
