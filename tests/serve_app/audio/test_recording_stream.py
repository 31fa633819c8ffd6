"""Recordings that are decoded block by block: the same samples, the same complaints as decoded whole."""

from __future__ import annotations

import io

import numpy as np
import pytest

from fakes.encoded_audio import chirp, encoded, wav
from serve_app.audio import recording_stream
from serve_app.audio.recording_stream import RecordingStream, open_recording
from serve_app.audio.recordings import DecodedRecording, decode_recording
from serve_app.core.errors import InvalidAudio, PayloadTooLarge
from serve_app.core.samples import Pcm16

pytestmark = pytest.mark.slow


def streamed(data: bytes, max_samples: int = 16_000 * 60) -> RecordingStream:
    opened = open_recording(io.BytesIO(data), max_samples=max_samples, beginning_samples=8_000)
    assert isinstance(opened, RecordingStream)
    return opened


async def all_of(stream: RecordingStream) -> Pcm16:
    return np.concatenate([block async for block in stream.blocks()])


@pytest.mark.parametrize("name", ["webm", "ogg", "mp3", "flac", "wav", "m4a", "mp4_fragments", "aac"])
async def test_the_samples_are_those_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_stream, "BLOCK_SAMPLES", 5_000)
    data = encoded(name)
    whole, stream = decode_recording(data), streamed(data)
    np.testing.assert_array_equal(await all_of(stream), whole.samples)
    assert (stream.warning, stream.complete) == (whole.warning, whole.complete)
    assert stream.duration_s == whole.duration_s
    assert stream.decode_s > 0


@pytest.mark.parametrize("name", ["flac", "wav", "m4a"])
def test_the_length_that_a_container_states(name: str) -> None:
    assert streamed(encoded(name)).stated_s == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("name", ["flac", "ogg", "wav", "mp3"])
async def test_a_damaged_file_says_at_its_end_where_it_broke(name: str) -> None:
    data = encoded(name)
    for broken in (
        data[: len(data) * 2 // 3],
        data[: len(data) // 2] + bytes(4_000) + data[len(data) // 2 :],
    ):
        whole, stream = decode_recording(broken), streamed(broken)
        np.testing.assert_array_equal(await all_of(stream), whole.samples)
        assert (stream.warning, stream.complete) == (whole.warning, whole.complete)


def test_a_short_recording_is_whole_at_once() -> None:
    opened = open_recording(io.BytesIO(encoded("flac")))
    assert isinstance(opened, DecodedRecording)
    np.testing.assert_array_equal(opened.samples, decode_recording(encoded("flac")).samples)


@pytest.mark.parametrize(
    "data", [b"", b"no audio", encoded("flac")[:100], wav(np.zeros(0, np.int16), 16_000)]
)
def test_what_is_no_audio_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(InvalidAudio) as whole:
        decode_recording(data)
    with pytest.raises(InvalidAudio) as opened:
        open_recording(io.BytesIO(data))
    assert str(opened.value) == str(whole.value)


async def test_one_that_is_too_long_ends_where_it_is() -> None:
    stream = streamed(encoded("flac"), max_samples=40_000)
    with pytest.raises(PayloadTooLarge):
        await all_of(stream)


async def test_a_closed_file_stops_the_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the client has gone, and with it the file."""
    monkeypatch.setattr(recording_stream, "BLOCK_SAMPLES", 5_000)
    file = io.BytesIO(wav(chirp(20.0, 16_000), 16_000))
    stream = open_recording(file, beginning_samples=8_000)
    assert isinstance(stream, RecordingStream)
    blocks = stream.blocks()
    await anext(blocks)
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        [block async for block in blocks]
