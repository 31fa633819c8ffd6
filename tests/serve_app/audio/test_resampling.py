"""What the resampler in front of the models keeps and what it keeps out, measured with tones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from serve_app.audio.pcm import PcmStream

OUT_HZ = 16_000
AMPLITUDE = 16_000
SETTLED = slice(4_000, 20_000)

RATES_UP = (8_000, 11_025)
RATES_DOWN = (22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)


def resampled_tone(rate_hz: int, frequency_hz: float, chunk_samples: int = 0) -> npt.NDArray[np.float64]:
    t = np.arange(2 * rate_hz) / rate_hz
    tone = np.rint(AMPLITUDE * np.sin(2 * np.pi * frequency_hz * t)).astype("<i2")
    stream = PcmStream("pcm16", rate_hz)
    step = chunk_samples or len(tone)
    pieces = [stream.push(tone[start : start + step].tobytes()) for start in range(0, len(tone), step)]
    return np.concatenate([*pieces, stream.finish()]).astype(np.float64)


def tone_and_rest_db(signal: npt.NDArray[np.float64], frequency_hz: float) -> tuple[float, float]:
    """The level of the tone in what came out, relative to what went in, and how far all else lies below."""
    n = np.arange(len(signal))
    angle = 2 * np.pi * frequency_hz / OUT_HZ * n
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    part, *_ = np.linalg.lstsq(basis, signal, rcond=None)
    rest = signal - basis @ part
    power = float(part @ part)
    return 10 * np.log10(power / AMPLITUDE**2), 10 * np.log10(power / 2 / np.mean(rest**2))


@pytest.mark.parametrize("share_of_nyquist", [0.0125, 0.125, 0.5, 0.7, 0.8, 0.85])
@pytest.mark.parametrize("rate_hz", [*RATES_UP, *RATES_DOWN])
def test_the_passband_is_flat_within_1_db(rate_hz: int, share_of_nyquist: float) -> None:
    frequency_hz = share_of_nyquist * min(rate_hz, OUT_HZ) / 2
    level_db, _ = tone_and_rest_db(resampled_tone(rate_hz, frequency_hz)[SETTLED], frequency_hz)
    assert abs(level_db) < 1


@pytest.mark.parametrize("share_of_nyquist", [0.0125, 0.125, 0.5, 0.7, 0.8])
@pytest.mark.parametrize("rate_hz", [*RATES_UP, *RATES_DOWN])
def test_a_tone_stays_clean_of_images_and_noise(rate_hz: int, share_of_nyquist: float) -> None:
    frequency_hz = share_of_nyquist * min(rate_hz, OUT_HZ) / 2
    _, rest_db = tone_and_rest_db(resampled_tone(rate_hz, frequency_hz)[SETTLED], frequency_hz)
    assert rest_db > 80


@pytest.mark.parametrize("frequency_hz", [9_100.0, 10_000.0, 11_000.0, 14_000.0, 20_000.0, 23_000.0])
@pytest.mark.parametrize("rate_hz", RATES_DOWN)
def test_nothing_folds_into_the_band_below_7_khz(rate_hz: int, frequency_hz: float) -> None:
    """From 9.1 kHz on tones would come back at 6.9 kHz and below; nearer 8 kHz the filter's slope lies."""
    if frequency_hz >= rate_hz / 2:
        pytest.skip("such a tone is not in this rate's sound")
    rms = np.sqrt(np.mean(resampled_tone(rate_hz, frequency_hz)[SETTLED] ** 2))
    assert 20 * np.log10(max(rms, 1e-3) * np.sqrt(2) / AMPLITUDE) < -60


@pytest.mark.parametrize("rate_hz", [*RATES_UP, *RATES_DOWN])
def test_frames_of_20_ms_give_what_the_whole_gives(rate_hz: int) -> None:
    whole = resampled_tone(rate_hz, 440.0)
    np.testing.assert_array_equal(resampled_tone(rate_hz, 440.0, rate_hz // 50), whole)
