import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.text import conditioning
from serve_app.core.samples import Pcm16

SECOND = 16_000


def talk(seconds: float = 2.0) -> Pcm16:
    syllables = np.arange(round(seconds * SECOND)) % 4_000 < 2_400
    return np.where(syllables, np.random.default_rng(0).normal(0, 3_000, len(syllables)), 0).astype(np.int16)


def band_db(samples: Pcm16, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples / 32_768)) ** 2
    frequencies_hz = np.fft.rfftfreq(len(samples), 1 / SECOND)
    within = spectrum[(frequencies_hz >= low_hz) & (frequencies_hz < high_hz)]
    return float(10 * np.log10(within.sum() * 2 / len(samples) ** 2 + 1e-15))


@pytest.mark.parametrize("sound", conditioning.SOUNDS)
def test_spoilt_sound_has_the_length_it_had_and_is_the_same_every_time(sound: str) -> None:
    spoil, samples = conditioning.SOUNDS[sound], talk()
    spoilt = spoil(samples)
    assert (spoilt.dtype, spoilt.shape) == (np.int16, samples.shape)
    np.testing.assert_array_equal(spoil(samples), spoilt)


def test_what_spoils_it_is_there() -> None:
    samples = talk()
    spoilt = {name: spoil(samples) for name, spoil in conditioning.SOUNDS.items()}
    np.testing.assert_array_equal(spoilt["clean"], samples)
    assert np.abs(spoilt["-30 dB"]).max() == pytest.approx(np.abs(samples).max() / 10**1.5, abs=1)
    cut_off = np.mean(np.abs(spoilt["clipped"][samples != 0].astype(int)) >= 32_767)
    assert 0.03 < cut_off < 0.06
    assert spoilt["hum and offset"].mean() / 32_768 == pytest.approx(0.1, abs=0.01)
    assert band_db(spoilt["hum and offset"], 45, 55) == pytest.approx(-20, abs=0.5)
    assert band_db(spoilt["rumble"], 1, 200) == pytest.approx(-15, abs=0.5)


def test_silence_can_be_spoilt_too() -> None:
    for spoil in conditioning.SOUNDS.values():
        assert len(spoil(np.zeros(SECOND, np.int16))) == SECOND


def test_every_step_is_tried_on_every_sound_and_nothing_is_recognised_twice() -> None:
    clips = [Clip("a", talk(1.01), "red green blue"), Clip("b", talk(2.0), "white")]
    heard: list[bytes] = []

    def recognise(samples: Pcm16) -> str:
        heard.append(samples.tobytes())
        return "red green" if len(samples) < 1.5 * SECOND else "white"

    rates = conditioning.error_rates(clips, recognise)
    steps = {*conditioning.STEPS, conditioning.PEAK}
    assert {sound: set(by_step) for sound, by_step in rates.items()} == dict.fromkeys(
        conditioning.SOUNDS, steps
    )
    assert {rate for by_step in rates.values() for rate in by_step.values()} == {0.25}
    assert len(heard) < 2 * len(rates) * len(steps)
    assert talk(2.0).tobytes() in heard


def test_only_the_step_that_is_named_is_on() -> None:
    treatments = conditioning.treatments()
    samples = talk()
    np.testing.assert_array_equal(treatments["none"](samples), samples)
    assert treatments[conditioning.PEAK](samples).max() > samples.max()
    assert band_db(treatments["DC removal"](samples + np.int16(2_000)), 0, 1) < -50
    assert treatments["gain +20 dB, limiter"](samples).max() > 20_000


def test_the_cost_of_every_step_is_measured() -> None:
    costs = conditioning.cpu_ms_per_s([Clip("a", talk(), "")])
    assert set(costs) == {*conditioning.STEPS, conditioning.PEAK}
    assert costs["all"] > costs["none"]


def test_the_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"clean": {"none": 0.05}}
    conditioning.show({"wer": {"tiny.en": rates}, "cpu_ms_per_s": {"none": 0.01}})
    printed = capsys.readouterr().out
    assert "Word error rate of tiny.en" in printed
    assert "5.0 %" in printed


def test_senseless_options() -> None:
    with pytest.raises(SystemExit):
        conditioning.parse_arguments(["--threads", "0"])
