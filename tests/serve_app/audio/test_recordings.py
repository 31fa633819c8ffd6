from __future__ import annotations

import io
import sys
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest

from fakes.encoded_audio import CONTAINERS, chirp, encoded, silent_film, wav
from serve_app.audio.recordings import decode_recording
from serve_app.core.errors import InvalidAudio, PayloadTooLarge, UnsupportedFormat

pytestmark = pytest.mark.slow


def damaged(data: bytes, start: float, end: float) -> bytes:
    """The same with random bytes between two shares of its length."""
    a, b = int(len(data) * start), int(len(data) * end)
    return data[:a] + np.random.default_rng(1).bytes(b - a) + data[b:]


def similarity(samples: np.ndarray, seconds: float = 4.0) -> float:
    """How much it sounds like `chirp`: correlation, at the best of a few milliseconds' shift."""
    wanted = chirp(seconds, 16_000).astype(np.float64)
    num = min(len(samples), len(wanted)) - 1_600
    return max(
        float(np.corrcoef(samples[800 + shift : num + shift], wanted[800:num])[0, 1])
        for shift in range(-2, 1_100)
        if len(samples) >= num + shift
    )


@pytest.mark.parametrize("name", CONTAINERS)
def test_decodes_every_container(name: str) -> None:
    recording = decode_recording(encoded(name))
    assert recording.samples.dtype == np.int16
    assert recording.duration_s == pytest.approx(4.0, abs=0.06)
    assert recording.format == ("mp4" if name.startswith(("m4a", "mp4")) else name)
    assert (recording.complete, recording.warning) == (True, None)
    assert similarity(recording.samples) > 0.98


def test_decodes_amr() -> None:
    recording = decode_recording(b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50)
    assert (recording.format, recording.duration_s) == ("amr", pytest.approx(1.0, abs=0.01))


def test_takes_bytes_files_and_paths(tmp_path: Path) -> None:
    data = encoded("flac")
    path = tmp_path / "anything.xyz"
    path.write_bytes(data)
    wanted = decode_recording(data).samples
    with path.open("rb") as file:
        np.testing.assert_array_equal(decode_recording(file).samples, wanted)
    np.testing.assert_array_equal(decode_recording(path).samples, wanted)


def test_16_khz_wav_is_exact() -> None:
    np.testing.assert_array_equal(
        decode_recording(wav(chirp(1.0, 16_000), 16_000)).samples, chirp(1.0, 16_000)
    )


@pytest.mark.parametrize("num_channels", [2, 3, 6, 8, 9, 16])
def test_channels_are_mixed_down(num_channels: int) -> None:
    samples = np.repeat(chirp(1.0, 16_000)[:, np.newaxis] // 2, num_channels, axis=1)
    recording = decode_recording(wav(samples, 16_000))
    assert len(recording.samples) == 16_000
    assert np.corrcoef(recording.samples, chirp(1.0, 16_000))[0, 1] > 0.999


def test_the_rate_may_change_midway() -> None:
    recording = decode_recording(encoded("mp3", 2.0, 44_100) + encoded("mp3", 2.0, 22_050))
    assert recording.duration_s == pytest.approx(4.0, abs=0.25)
    assert similarity(recording.samples[:32_000], 2.0) > 0.98


def test_a_streamed_wav_that_states_no_length_is_complete() -> None:
    recording = decode_recording(wav(chirp(1.0, 16_000), 16_000, data_bytes=0xFFFFFFFF))
    assert (recording.duration_s, recording.complete) == (1.0, True)


@pytest.mark.parametrize("name", ["wav", "flac", "aiff", "mp4_fragments", "m4a_faststart"])
def test_what_came_before_the_end_of_a_truncated_file_is_kept_and_told(name: str) -> None:
    data = encoded(name)
    recording = decode_recording(data[: len(data) // 2])
    assert 1.5 < recording.duration_s < 2.2
    assert recording.complete is False
    assert recording.warning is not None


@pytest.mark.parametrize("name", ["webm", "ogg", "mp3", "aac"])
def test_formats_that_state_no_length_are_kept_as_far_as_they_go(name: str) -> None:
    data = encoded(name)
    assert 1.5 < decode_recording(data[: len(data) // 2]).duration_s < 2.2


@pytest.mark.parametrize("name", ["mp3", "aac", "flac", "m4a"])
def test_damage_in_the_middle_costs_only_the_middle(name: str) -> None:
    recording = decode_recording(damaged(encoded(name), 0.5, 0.55))
    assert 3.0 < recording.duration_s < 4.1
    assert recording.complete is False
    assert similarity(recording.samples[:28_000], 4.0) > 0.9


@pytest.mark.parametrize("name", ["webm", "ogg"])
def test_damage_that_the_decoder_hides_is_survived(name: str) -> None:
    assert decode_recording(damaged(encoded(name), 0.5, 0.55)).duration_s > 2.5


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"hello world " * 500,
        b'{"a": 1}',
        b"<html><body>no</body></html>",
        bytes(65_536),
        np.random.default_rng(0).bytes(65_536),
        wav(chirp(1.0, 16_000), 16_000)[:44],
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"OggS" + bytes(1_000),
        b"fLaC" + bytes(1_000),
        b"\x1a\x45\xdf\xa3" + bytes(1_000),
    ],
)
def test_what_is_no_audio_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidAudio):
        decode_recording(data)


def test_an_mp4_without_its_index_and_one_without_sound_are_refused() -> None:
    with pytest.raises(InvalidAudio, match="no mp4 that can be decoded"):
        decode_recording(encoded("m4a")[:10_000])
    with pytest.raises(InvalidAudio, match="holds no audio stream"):
        decode_recording(silent_film())


def test_a_playlist_reads_no_file_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.wav").write_bytes(wav(chirp(1.0, 16_000), 16_000))
    monkeypatch.chdir(tmp_path)
    playlist = b"ffconcat version 1.0\nfile secret.wav\n"
    with av.open(io.BytesIO(playlist)) as unguarded:  # the hole is real
        assert sum(frame.samples for frame in unguarded.decode(audio=0)) == 16_000
    with pytest.raises(InvalidAudio):
        decode_recording(playlist)
    path = tmp_path / "list.wav"
    path.write_bytes(playlist)
    with pytest.raises(InvalidAudio):
        decode_recording(path)


def test_only_allowed_formats_are_opened() -> None:
    allowed = frozenset({"wav", "mp3"})
    with pytest.raises(UnsupportedFormat, match="flac is not allowed: expected mp3, wav"):
        decode_recording(encoded("flac"), allowed_formats=allowed)
    assert decode_recording(encoded("mp3"), allowed_formats=allowed).format == "mp3"


def test_bytes_that_tell_nothing_are_guessed_within_the_allowed_formats() -> None:
    data = bytes(100) + encoded("mp3")[2_000:]
    assert decode_recording(data).format == "mp3"
    with pytest.raises(InvalidAudio):
        decode_recording(data, allowed_formats=frozenset({"wav", "flac"}))


def test_longer_than_allowed_is_refused_early() -> None:
    data = encoded("flac")
    with pytest.raises(PayloadTooLarge, match="longer than 2 s"):
        decode_recording(data, max_samples=32_000)
    assert decode_recording(data, max_samples=64_000).duration_s == 4.0


@pytest.mark.parametrize("rate_hz", [1, 3_999, 400_000])
def test_absurd_rates_are_refused(rate_hz: int) -> None:
    with pytest.raises(InvalidAudio, match="sample rate|can be decoded"):
        decode_recording(wav(np.zeros(8_000, np.int16), rate_hz))


@pytest.mark.slow
def test_memory_is_little_more_than_the_samples() -> None:
    seconds = 600
    data = wav(np.zeros(seconds * 16_000, np.int16), 16_000)
    tracemalloc.start()
    recording = decode_recording(io.BytesIO(data))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert recording.duration_s == seconds
    assert recording.samples.base is None
    # The numpy that goes with Python 3.12 and later copies an array to resize it; ours before that moves it.
    limit = 1.8 if sys.version_info < (3, 12) else 2.4
    assert peak_bytes < limit * recording.samples.nbytes
