"""Small frames: joined without a loss, a delay or a change of order, many of them one piece of work."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.websockets import auto
from websockets.asyncio.client import connect

from fakes.app_server import running_app
from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from serve_app.protocols.dialect import ContainerAudio, RawAudio
from serve_app.web.app import create_app
from serve_app.web.keepalive import PatientWebSocket
from serve_app.web.live.frame_joiner import MAX_JOINED_BYTES, MAX_SMALL_BYTES, FrameJoiner, unit_bytes

WORKLET = 256
"""Bytes of an AudioWorklet's 128 samples."""


class Taker:
    """Takes what `FrameJoiner` passes on; waits while `room` is not set."""

    def __init__(self):
        self.pieces = []
        self.room = asyncio.Event()
        self.room.set()

    async def take(self, data):
        await self.room.wait()
        self.pieces.append(data)


def joiner_of(taker, unit=2):
    return FrameJoiner(taker.take, unit, asyncio.create_task)


async def test_what_is_read_together_is_given_as_one():
    taker = Taker()
    joiner = joiner_of(taker)
    for number in range(12):
        await joiner.add(bytes([number]) * WORKLET)
    assert taker.pieces == []
    await asyncio.sleep(0)  # the loop comes round once
    assert taker.pieces == [b"".join(bytes([number]) * WORKLET for number in range(12))]


async def test_large_and_broken_and_empty_frames_go_alone_and_in_order():
    taker = Taker()
    joiner = joiner_of(taker)
    frames = [b"a" * 10, b"b" * (MAX_SMALL_BYTES + 2), b"c" * 10, b"d" * 3, b"e" * 10, b"", b"f" * 10]
    for frame in frames:
        await joiner.add(frame)
    await joiner.flush()
    assert taker.pieces == frames


async def test_no_more_is_gathered_than_the_limit():
    taker = Taker()
    joiner = joiner_of(taker)
    for _ in range(2 * MAX_JOINED_BYTES // MAX_SMALL_BYTES):
        await joiner.add(bytes(MAX_SMALL_BYTES))
    await joiner.flush()
    assert [len(piece) for piece in taker.pieces] == [MAX_JOINED_BYTES] * 2


async def test_a_taker_without_room_holds_the_next_frame_back():
    taker = Taker()
    joiner = joiner_of(taker)
    taker.room.clear()
    await joiner.add(b"aa")
    await asyncio.sleep(0)
    assert joiner.is_passing_on
    held = asyncio.create_task(joiner.add(b"bb"))
    await asyncio.sleep(0)
    assert not held.done()
    taker.room.set()
    await held
    await joiner.flush()
    assert taker.pieces == [b"aa", b"bb"]


@given(sizes=st.lists(st.integers(0, MAX_SMALL_BYTES + 50), max_size=40), pauses=st.lists(st.booleans()))
def test_no_byte_is_lost_or_moved(sizes, pauses):
    async def run():
        taker = Taker()
        joiner = joiner_of(taker)
        frames = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
        for number, frame in enumerate(frames):
            await joiner.add(frame)
            if number < len(pauses) and pauses[number]:
                await asyncio.sleep(0)
        await joiner.flush()
        assert b"".join(taker.pieces) == b"".join(frames)

    asyncio.run(run())


def test_units():
    assert unit_bytes(RawAudio(channels=2, encoding="float32", whole_samples=True)) == 8
    assert unit_bytes(RawAudio(encoding="mulaw", whole_samples=True)) == 1
    assert unit_bytes(RawAudio(channels=2)) == unit_bytes(ContainerAudio()) == 1


async def test_a_flush_between_small_frames_stays_between_them():
    service = FakeService()
    async with AsgiSocket(create_app(service, FakeSettings())) as socket:
        await socket.start()
        for _ in range(10):
            socket.say(bytes(WORKLET))
        socket.say({"type": "flush"})
        for _ in range(5):
            socket.say(bytes(WORKLET))
        socket.say(b"odd")
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert [m["text"] for m in messages if "text" in m] == ["Olá, mundo. 1280", "Olá, mundo. 640"]
    assert [m["code"] for m in messages if "code" in m] == ["INVALID_MESSAGE"]


@pytest.fixture
def server(monkeypatch):
    """The doors behind the WebSocket that our replicas use."""
    monkeypatch.setattr(auto, "AutoWebSocketsProtocol", PatientWebSocket)
    service = FakeService()
    with running_app(create_app(service, FakeSettings())) as port:
        yield service, port


async def test_frames_of_an_audio_worklet_reach_the_session_many_at_a_time(server):
    service, port = server
    samples = np.random.default_rng(1).integers(-9000, 9000, 128 * 600).astype(np.int16)
    async with connect(f"ws://127.0.0.1:{port}/ws/stt") as client:
        await client.send('{"type":"start_session","config":{"sample_rate":16000}}')
        for start in range(0, len(samples), 128):
            await client.send(samples[start : start + 128].tobytes())
        await client.send('{"type":"end_session"}')
        messages = [message async for message in client]
    (session,) = service.sessions
    np.testing.assert_array_equal(session.audio, samples)
    assert len(session.samples) < 600 / 4
    assert '"session_ended"' in messages[-1]


async def test_a_frame_now_and_then_is_not_kept_waiting(server):
    """Nothing is gathered of a client that says one thing at a time: each is read when it comes."""
    service, port = server
    async with connect(f"ws://127.0.0.1:{port}/ws/stt") as client:
        await client.send('{"type":"start_session"}')
        await client.recv()
        for number in range(1, 6):
            await client.send(bytes(3200))
            await client.send('{"type":"flush"}')
            while '"final_transcript"' not in await client.recv():
                pass
            assert len(service.sessions[0].samples) == number
