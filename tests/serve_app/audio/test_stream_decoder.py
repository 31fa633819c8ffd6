from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fakes.encoded_audio import encoded, silent_film, wav
from serve_app.audio.formats import ALL_FORMATS
from serve_app.audio.recordings import decode_recording
from serve_app.audio.stream_decoder import ContainerStream
from serve_app.core.errors import InvalidAudio, PayloadTooLarge, UnsupportedFormat

STREAMABLE = ("webm", "ogg", "mp3", "flac", "wav", "m4a_faststart", "mp4_fragments", "aac", "aiff", "caf")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "container-stream"]


def assert_same(streamed: np.ndarray, whole: np.ndarray) -> None:
    """Equal, but for the padding at the end of an mp3: only a decoder that can seek knows where it starts."""
    assert 0 <= len(streamed) - len(whole) <= 600
    settled = len(whole) - (32 if len(streamed) > len(whole) else 0)
    np.testing.assert_array_equal(streamed[:settled], whole[:settled])


async def collect(stream: ContainerStream, into: list[np.ndarray]) -> None:
    async for chunk in stream.samples():
        into.append(chunk)


async def decode(data: bytes, chunk_bytes: int, **limits: int) -> np.ndarray:
    pieces: list[np.ndarray] = []
    async with ContainerStream(**limits) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(collect(stream, pieces))
        for start in range(0, len(data), chunk_bytes):
            await stream.feed(data[start : start + chunk_bytes])
        stream.finish()
    return np.concatenate(pieces)


@pytest.mark.parametrize("name", STREAMABLE)
@pytest.mark.parametrize("chunk_bytes", [7, 997, 1_000_000])
async def test_a_stream_decodes_like_the_whole_file(name: str, chunk_bytes: int) -> None:
    data = encoded(name, 1.0) if chunk_bytes == 7 else encoded(name)
    assert_same(await decode(data, chunk_bytes), decode_recording(data).samples)


@pytest.mark.parametrize("name", ["webm", "ogg", "mp3"])
async def test_byte_by_byte(name: str) -> None:
    data = encoded(name, 0.5)
    assert_same(await decode(data, 1), decode_recording(data).samples)


@pytest.mark.parametrize(
    ("name", "max_lag_s"), [("webm", 0.5), ("ogg", 0.5), ("mp3", 0.5), ("wav", 0.15), ("mp4_fragments", 0.5)]
)
async def test_audio_comes_while_the_upload_goes_on(name: str, max_lag_s: float) -> None:
    data = encoded(name)
    got = 0
    async with ContainerStream() as stream:
        await stream.feed(data[: len(data) // 2])
        async with asyncio.timeout(60):
            async for chunk in stream.samples():
                got += len(chunk)
                if got >= (2.0 - max_lag_s) * 16_000:
                    break
        assert stream.format == ("mp4" if name.startswith("mp4") else name)


async def test_small_limits_change_nothing_but_the_waiting() -> None:
    data = encoded("flac")
    got = await decode(data, 50_000, max_unread_bytes=1_000, max_ready_samples=500)
    np.testing.assert_array_equal(got, decode_recording(data).samples)


async def test_feeding_waits_for_the_reader() -> None:
    data = encoded("wav", 4.0)
    async with ContainerStream(max_unread_bytes=10_000, max_ready_samples=8_000) as stream:
        feeding = asyncio.create_task(stream.feed(data))
        await asyncio.wait([feeding], timeout=0.2)
        assert not feeding.done()
        pieces: list[np.ndarray] = []
        reading = asyncio.create_task(collect(stream, pieces))
        await asyncio.wait_for(feeding, 60)
        stream.finish()
        await asyncio.wait_for(reading, 60)
    assert sum(map(len, pieces)) == 64_000


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", InvalidAudio, "the stream is empty"),
        (b"abc", UnsupportedFormat, "unknown audio format"),
        (b"ffconcat version 1.0\nfile secret.wav\n", UnsupportedFormat, "unknown audio format"),
        (b"OggS" + bytes(2_000), InvalidAudio, "ogg stream begins behind its header"),
        (b"OggS\0\2" + bytes(2_000), InvalidAudio, "no ogg that can be decoded"),
        (encoded("webm")[:200], InvalidAudio, "webm"),
        (encoded("m4a"), InvalidAudio, "index behind its audio"),
        (silent_film()[:30], InvalidAudio, "no mp4 that can be decoded"),
        (wav(np.zeros(0, np.int16), 16_000), InvalidAudio, "no audio could be decoded|can be decoded"),
    ],
)
async def test_errors_come_out_of_samples(data: bytes, error: type[Exception], message: str) -> None:
    async with ContainerStream() as stream:
        await stream.feed(data)
        stream.finish()
        with pytest.raises(error, match=message):
            await collect(stream, [])
        await stream.feed(b"more is dropped")


async def test_an_index_at_the_end_is_told_at_once() -> None:
    async with ContainerStream() as stream:
        await stream.feed(encoded("m4a")[:2_000])
        with pytest.raises(InvalidAudio, match="index behind its audio"):
            await asyncio.wait_for(collect(stream, []), 60)


async def test_a_format_outside_the_list_is_refused() -> None:
    async with ContainerStream(allowed_formats=ALL_FORMATS - {"webm"}) as stream:
        await stream.feed(encoded("webm"))
        with pytest.raises(UnsupportedFormat, match="webm is not allowed"):
            await collect(stream, [])


async def test_what_came_before_the_limit_is_given_first() -> None:
    pieces: list[np.ndarray] = []
    async with ContainerStream(max_samples=32_000) as stream:
        await stream.feed(encoded("flac"))
        with pytest.raises(PayloadTooLarge):
            await collect(stream, pieces)
    assert 28_000 < sum(map(len, pieces)) <= 32_000


async def test_damage_is_skipped_and_told() -> None:
    data = bytearray(encoded("mp3"))
    data[30_000:31_500] = np.random.default_rng(1).bytes(1_500)
    pieces: list[np.ndarray] = []
    async with ContainerStream() as stream:
        await stream.feed(bytes(data))
        stream.finish()
        await collect(stream, pieces)
        assert stream.warning is not None
    assert sum(map(len, pieces)) > 3 * 16_000


@pytest.mark.parametrize("num_bytes", [0, 3, 100, 20_000])
async def test_closing_midway_ends_the_thread_and_the_reader(num_bytes: int) -> None:
    stream = ContainerStream()
    await stream.feed(encoded("webm")[:num_bytes])
    reading = asyncio.create_task(collect(stream, []))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(stream.aclose(), 60)
    await asyncio.wait_for(reading, 60)
    await stream.aclose()


async def test_closing_frees_a_feed_that_waits() -> None:
    stream = ContainerStream(max_unread_bytes=1_000, max_ready_samples=1_000)
    feeding = asyncio.create_task(stream.feed(encoded("wav")))
    await asyncio.sleep(0.02)
    assert not feeding.done()
    await asyncio.wait_for(stream.aclose(), 60)
    await asyncio.wait_for(feeding, 60)


async def test_cancelling_the_user_ends_the_thread() -> None:
    async def use() -> None:
        async with ContainerStream() as stream:
            await stream.feed(encoded("ogg")[:5_000])
            await collect(stream, [])

    task = asyncio.create_task(use())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
