"""Channels mixed so that what is said on them is heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fakes.encoded_audio import chirp, streamed, wav
from serve_app.audio.mixing import Downmix
from serve_app.audio.recordings import decode_recording

GOLDEN = Path(__file__).parents[2] / "golden" / "files"
VOICE = (chirp(2.0, 16_000) // 2).astype(np.int16)


def decoded(*channels: np.ndarray) -> tuple[np.ndarray, str | None]:
    recording = decode_recording(wav(np.stack(channels, axis=1), 16_000))
    assert recording.complete
    return recording.samples, recording.warning


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a[: len(b)], b)[0, 1])


@pytest.mark.parametrize("gain", [-1.0, -0.9, -0.6, -1.6])
def test_channels_of_opposite_phase_are_heard(gain: float) -> None:
    samples, warning = decoded(VOICE, (VOICE * gain).astype(np.int16))
    louder = np.abs(gain) if np.abs(gain) > 1 else 1.0
    assert abs(likeness(samples, VOICE)) > 0.99
    assert np.std(samples) == pytest.approx(louder * np.std(VOICE), rel=0.05)
    assert warning == "the channels cancel each other out (opposite phase): the loudest of them was taken"


def test_the_file_of_a_wrong_cable() -> None:
    recording = decode_recording(GOLDEN / "t03_phase.flac")
    channels = decode_recording(GOLDEN / "t03_phase.flac", keep_channels=True).samples
    assert likeness(recording.samples, channels[:, 0]) > 0.98
    assert recording.complete
    assert "opposite phase" in (recording.warning or "")


@pytest.mark.parametrize(
    "second",
    [
        VOICE,
        np.zeros_like(VOICE),
        np.roll(VOICE, 4_000),
        np.random.default_rng(0).normal(0, 2_000, len(VOICE)).astype(np.int16),
        (VOICE * -0.1).astype(np.int16),
    ],
    ids=["same", "silent", "another", "noise", "crosstalk"],
)
def test_other_channels_are_mixed_as_ever(second: np.ndarray) -> None:
    samples, warning = decoded(VOICE, second)
    mean = (VOICE.astype(float) + second) / 2
    assert np.abs(samples - mean).max() <= 1.0
    assert warning is None


@pytest.mark.parametrize("num_channels", [4, 6, 8, 12])
def test_more_channels_of_opposite_phase(num_channels: int) -> None:
    channels = [VOICE if index % 2 else -VOICE for index in range(num_channels)]
    samples, warning = decoded(*channels)
    assert abs(likeness(samples, VOICE)) > 0.95
    assert warning is not None


def test_silence_is_not_judged() -> None:
    quiet = np.random.default_rng(0).integers(-8, 9, len(VOICE)).astype(np.int16)
    assert decoded(quiet, -quiet)[1] is None


@pytest.mark.parametrize("cut", [1, 7, 160, 333, 5_000])
def test_cuts_change_nothing(cut: int) -> None:
    rng = np.random.default_rng(3)
    sound = (rng.normal(0, 0.1, 32_000) * np.repeat([1, 0, 1, 1], 8_000)).astype(np.float32)
    planes = np.stack([sound, np.where(np.arange(32_000) < 20_000, -sound, sound)])
    whole = Downmix(2, 16_000)
    wanted = np.concatenate([whole.push(planes), whole.finish()])
    pieces = Downmix(2, 16_000)
    num = len(wanted) if cut > 1 else 2_000
    got = [pieces.push(planes[:, at : at + cut]) for at in range(0, num, cut)]
    if num >= 32_000:
        got.append(pieces.finish())
    heard = np.concatenate(got)
    np.testing.assert_array_equal(heard, wanted[: len(heard)])
    assert len(heard) >= num - 320


def test_it_goes_back_to_the_mix() -> None:
    sound = np.random.default_rng(1).normal(0, 0.1, 48_000).astype(np.float32)
    planes = np.stack([sound, np.where(np.arange(48_000) < 16_000, -sound, sound * 0.5)])
    mixed = Downmix(2, 16_000).push(planes)
    np.testing.assert_array_equal(mixed[:16_000], sound[:16_000])
    np.testing.assert_allclose(mixed[32_000:], sound[32_000:] * 0.75, rtol=1e-5)


@pytest.mark.parametrize("chunk_bytes", [111, 4_000, 1_000_000])
async def test_live_streams_alike(chunk_bytes: int) -> None:
    data = (GOLDEN / "t03_phase.flac").read_bytes()
    samples, stream = await streamed(data, chunk_bytes)
    np.testing.assert_array_equal(samples, decode_recording(data).samples)
    assert "opposite phase" in (stream.remark or "")
