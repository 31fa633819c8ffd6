"""Recordings one behind the other in one file or stream."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from fakes.encoded_audio import CONTAINERS, chirp, encoded, silent_film, streamed, timed, wav
from serve_app.audio import recordings, stream_decoder
from serve_app.audio.chains import TOO_MANY_PARTS, HeaderFinder, PartReader, parts_of, skip_tags
from serve_app.audio.recordings import decode_recording
from serve_app.core.errors import InvalidAudio

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[2] / "golden" / "files"
TAG = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + bytes(256)
TAGGED = ("mp3", "flac", "aac", "wav")
LIVE = tuple(name for name in CONTAINERS if name != "m4a")


def assert_again_and_again(name: str, samples: np.ndarray, once: np.ndarray, times: int) -> None:
    if name != "aac":
        np.testing.assert_array_equal(samples, np.tile(once, times))
        return
    # ADTS has no header: there the decoder goes on, and the end of one sounds into the next.
    assert abs(len(samples) - times * len(once)) <= 1
    assert np.corrcoef(np.resize(samples, times * len(once)), np.tile(once, times))[0, 1] > 0.99


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_header_that_comes_again_is_another_recording(name: str) -> None:
    data = encoded(name, 1.5)
    recording = decode_recording(data * 3)
    assert_again_and_again(name, recording.samples, decode_recording(data).samples, 3)
    assert recording.warning is None


@pytest.mark.parametrize("name", TAGGED)
def test_tags_between_recordings_are_passed_over(name: str) -> None:
    data = TAG + TAG + encoded(name, 1.0)
    recording = decode_recording(data * 2)
    assert_again_and_again(name, recording.samples, decode_recording(encoded(name, 1.0)).samples, 2)
    assert (recording.format, recording.warning) == (name, None)


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("chunk_bytes", [13, 1_000, 1_000_000])
async def test_a_stream_in_which_the_header_comes_again(name: str, chunk_bytes: int) -> None:
    data = encoded(name, 0.5)
    once, _ = await streamed(data, 1_000_000)
    samples, stream = await streamed(data * 2, chunk_bytes)
    assert_again_and_again(name, samples, once, 2)
    assert stream.warning is None


@pytest.mark.parametrize("name", TAGGED)
@pytest.mark.parametrize("chunk_bytes", [1, 1_000_000])
async def test_a_stream_with_tags_in_front(name: str, chunk_bytes: int) -> None:
    data = encoded(name, 0.3)
    once, _ = await streamed(data, 1_000_000)
    samples, stream = await streamed(TAG + data + TAG + data, chunk_bytes)
    assert_again_and_again(name, samples, once, 2)
    assert stream.warning is None


def test_the_second_recording_of_an_mp4_is_whole() -> None:
    recording = decode_recording(GOLDEN / "t08_twice.mp4")
    assert (recording.duration_s, recording.warning) == (pytest.approx(8.38, abs=0.01), None)
    speech = np.abs(recording.samples.astype(int)) > 1_000
    assert speech[: round(3.9 * 16_000)].any()
    assert speech[round(4.5 * 16_000) : round(5.0 * 16_000)].any()  # was lost: the first second of the second


@pytest.mark.parametrize("name", ["t05_id3.aac", "t05_id3.flac"])
def test_a_tag_says_nothing_of_what_follows(name: str) -> None:
    recording = decode_recording(GOLDEN / name)
    assert (recording.format, recording.warning) == (name.partition(".")[2], None)
    assert recording.duration_s == pytest.approx(3.8, abs=0.15)


def test_a_tag_alone_is_no_recording() -> None:
    with pytest.raises(InvalidAudio, match="a tag and no audio"):
        decode_recording(TAG)


def test_what_does_not_open_behind_a_recording_is_told() -> None:
    data = encoded("webm", 1.0)
    recording = decode_recording(data + data[:60])
    assert len(recording.samples) == len(decode_recording(data).samples)
    assert recording.complete is False
    assert recording.warning == "the data is damaged after 1.0 s"


async def test_what_does_not_open_behind_a_recording_is_told_live() -> None:
    data = encoded("webm", 1.0)
    samples, stream = await streamed(data + data[:60], 500)
    assert len(samples) == len(decode_recording(data).samples)
    assert stream.warning == "the data is damaged after 1.0 s"


@pytest.mark.parametrize("name", ["webm", "mp4_fragments", "flac", "ogg"])
async def test_a_recording_that_broke_off_does_not_cost_the_next(name: str) -> None:
    whole = encoded(name, 1.0)
    data = whole[: len(whole) * 2 // 3] + whole
    recording = decode_recording(data)
    assert 1.4 < recording.duration_s < 1.8
    tail = decode_recording(whole).samples
    np.testing.assert_array_equal(recording.samples[-len(tail) :], tail)
    samples, _ = await streamed(data, 700)
    np.testing.assert_array_equal(samples[-len(tail) :], tail)


def test_a_film_with_picture_and_sound_is_one_recording() -> None:
    data = timed("webm", [[(0.0, chirp(1.0, 48_000))]], picture_s=1.0)
    assert len(list(parts_of(io.BytesIO(data), "webm", 0))) == 1


def test_channels_are_kept_over_all_parts() -> None:
    sound = np.stack([chirp(0.5, 16_000), chirp(0.5, 16_000) // 3], axis=1)
    recording = decode_recording(wav(sound, 16_000) * 2, keep_channels=True)
    np.testing.assert_array_equal(recording.samples, np.concatenate([sound, sound]))


def test_the_limit_is_one_of_all_parts_together() -> None:
    data = encoded("flac", 1.0)
    assert decode_recording(data * 2, max_samples=32_000).duration_s == 2.0
    with pytest.raises(Exception, match="longer than 1 s"):
        decode_recording(data * 2, max_samples=16_000)


def test_a_film_without_sound_in_front_is_still_refused() -> None:
    with pytest.raises(InvalidAudio, match="holds no audio stream, only video"):
        decode_recording(silent_film() + encoded("mp4_fragments"))


@pytest.mark.parametrize("name", LIVE)
def test_headers_are_found_however_the_bytes_are_cut(name: str) -> None:
    data = encoded(name, 0.2)
    once = data[skip_tags(io.BytesIO(data)) :]
    kind = "mp4" if name.startswith(("m4a", "mp4")) else name
    for chunk_bytes in (1, 2, 3, 7, 64, 4_096):
        parts = parts_read(data * 2, kind, chunk_bytes)
        assert parts == ([data * 2] if name == "aac" else [once, once])


def parts_read(data: bytes, format_name: str, chunk_bytes: int) -> list[bytes]:
    pending = io.BytesIO(data)
    reader = PartReader(lambda size: pending.read(min(chunk_bytes, size)))
    reader.skip_tags()
    reader.begin(format_name)
    parts = [b"".join(iter(reader.read, b""))]
    while reader.next_part():
        parts.append(b"".join(iter(reader.read, b"")))
    return parts


def test_bytes_that_may_begin_a_header_wait_for_more() -> None:
    finder = HeaderFinder("flac")
    assert finder.find(b"....fLaC", 1, ended=False) == (None, 4)
    assert finder.find(b"....fLaC", 1, ended=True) == (None, 8)
    assert finder.find(b"....fLaC\0\0\0\x22", 1, ended=False) == (4, 4)
    assert finder.find(b"....fLaX", 1, ended=False) == (None, 8)


async def test_recordings_past_the_limit_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (recordings, stream_decoder):
        monkeypatch.setattr(module, "MAX_PARTS", 2)
    data = encoded("flac", 0.5)
    recording = decode_recording(data * 3)
    assert_again_and_again("flac", recording.samples, decode_recording(data).samples, 2)
    assert recording.complete is False
    assert recording.warning == TOO_MANY_PARTS
    samples, stream = await streamed(data * 3, 900)
    assert_again_and_again("flac", samples, decode_recording(data).samples, 2)
    assert stream.warning == TOO_MANY_PARTS
    assert (await streamed(data * 2, 900))[1].warning is None
