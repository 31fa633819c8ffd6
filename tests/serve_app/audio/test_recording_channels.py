"""Recordings decoded with their channels."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
import soundfile

from fakes.encoded_audio import chirp, wav
from serve_app.audio.recordings import decode_recording
from serve_app.audio.resampling import FrameResampler
from serve_app.core.errors import InvalidAudio, PayloadTooLarge


def channels(count: int, seconds: float = 1.0, rate_hz: int = 16_000) -> np.ndarray:
    """int16 `(n, count)`, every channel another one."""
    sound = chirp(seconds, rate_hz)
    return np.stack([np.roll(sound, 997 * index) // (index + 1) for index in range(count)], axis=1)


def file_of(samples: np.ndarray, rate_hz: int, name: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=name, subtype=subtype)
    return file.getvalue()


def frame_of(samples: np.ndarray, layout: str, rate_hz: int = 16_000) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate = rate_hz
    return frame


@pytest.mark.parametrize("count", range(1, 9))
def test_channels_come_as_they_are(count: int) -> None:
    sound = channels(count)
    recording = decode_recording(wav(sound, 16_000), keep_channels=True)
    np.testing.assert_array_equal(recording.samples, sound)
    assert (recording.duration_s, recording.warning) == (1.0, None)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8])
@pytest.mark.parametrize(("name", "subtype"), [("wav", "FLOAT"), ("wav", "PCM_24"), ("flac", "PCM_16")])
def test_a_channel_among_others_is_decoded_as_if_alone(count: int, name: str, subtype: str) -> None:
    sound = channels(count, rate_hz=44_100)
    together = decode_recording(file_of(sound, 44_100, name, subtype), keep_channels=True).samples
    assert together.shape[1] == count
    for index in range(count):
        alone = decode_recording(file_of(sound[:, index], 44_100, name, subtype)).samples
        assert np.abs(together[:, index].astype(int) - alone).max() <= 1


def test_a_voice_on_one_channel_is_not_heard_on_the_other() -> None:
    sound = channels(2)
    sound[:, 1] = 0
    recording = decode_recording(file_of(sound, 16_000, "ogg", "VORBIS"), keep_channels=True)
    left, right = recording.samples.astype(np.float64).T
    assert np.sqrt(np.mean(left**2)) > 100 * np.sqrt(np.mean(right**2))


def test_more_channels_than_can_be_kept() -> None:
    data = wav(channels(9), 16_000)
    with pytest.raises(InvalidAudio, match="9 channels: expected 1 to 8"):
        decode_recording(data, keep_channels=True)
    assert decode_recording(data).duration_s == 1.0


def test_the_limit_is_one_of_all_channels_together() -> None:
    data = wav(channels(2), 16_000)
    assert decode_recording(data, max_samples=32_000, keep_channels=True).duration_s == 1.0
    with pytest.raises(PayloadTooLarge, match="longer than 1 s, the longest for 2 channels"):
        decode_recording(wav(channels(2, 1.1), 16_000), max_samples=32_000, keep_channels=True)
    mixed = decode_recording(wav(channels(2, 1.1), 16_000), max_samples=32_000)
    assert mixed.duration_s == pytest.approx(1.1)


def test_a_recording_cut_short_is_warned_about() -> None:
    recording = decode_recording(wav(channels(2, 2.0), 16_000)[:64_044], keep_channels=True)
    assert recording.samples.shape == (16_000, 2)
    assert recording.warning is not None


@pytest.mark.parametrize(
    ("first", "second"), [("stereo", "mono"), ("mono", "stereo"), ("stereo", "5.1"), ("3 channels", "stereo")]
)
def test_channels_that_change_midway_become_those_of_the_beginning(first: str, second: str) -> None:
    num_first, num_second = (av.AudioLayout(name).nb_channels for name in (first, second))
    resampler = FrameResampler(keep_channels=True)
    before = resampler.push(frame_of(channels(num_first, 0.1), first))
    after = [resampler.push(frame_of(channels(num_second, 0.1), second)), resampler.finish()]
    np.testing.assert_array_equal(before.reshape(-1, num_first), channels(num_first, 0.1))
    assert sum(map(len, after)) == 1_600 * num_first
    assert resampler.num_channels == num_first


def test_one_voice_midway_is_on_both_channels() -> None:
    resampler = FrameResampler(keep_channels=True)
    resampler.push(frame_of(channels(2, 0.1), "stereo"))
    left, right = resampler.push(frame_of(channels(1, 0.1), "mono")).reshape(-1, 2).T
    np.testing.assert_array_equal(left, right)
    assert left.any()
