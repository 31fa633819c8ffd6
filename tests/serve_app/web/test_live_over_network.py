"""The native door through a real server and a real client library."""

import asyncio
import json

import numpy as np
import pytest
import websockets

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app


@pytest.fixture
def service():
    return FakeService(max_sessions=2)


@pytest.fixture
def port(service):
    with running_app(create_app(service, FakeSettings())) as port:
        yield port


async def test_an_example_client_works(service, port, tmp_path):
    audio = np.random.default_rng(0).integers(-2000, 2000, 16_000 * 5, np.int16).tobytes()
    path = tmp_path / "audio.raw"
    path.write_bytes(audio)
    transcripts = []
    async with websockets.connect(f"ws://127.0.0.1:{port}/ws/stt") as ws:
        await ws.send(
            json.dumps({"type": "start_session", "session_id": "my-session", "config": {"lang_code": "pt"}})
        )
        response = json.loads(await ws.recv())
        assert response["type"] == "session_started"
        with path.open("rb") as f:
            while chunk := f.read(1280):
                await ws.send(chunk)
                await asyncio.sleep(0)
        await ws.send(json.dumps({"type": "flush"}))
        await ws.send(json.dumps({"type": "end_session"}))
        async for msg in ws:
            data = json.loads(msg)
            if data["type"] == "final_transcript":
                transcripts.append(data["text"])
            elif data["type"] == "session_ended":
                break
    assert transcripts == ["Olá, mundo. 80000"]
    assert service.sessions[0].audio.tobytes() == audio


async def test_a_full_service_closes_with_1013_behind_its_error(port):
    url = f"ws://127.0.0.1:{port}/ws/stt"
    async with websockets.connect(url) as first, websockets.connect(url) as second:
        for socket in (first, second):
            await socket.send('{"type":"start_session"}')
            assert json.loads(await socket.recv())["type"] == "session_started"
        async with websockets.connect(url) as third:
            await third.send('{"type":"start_session"}')
            assert json.loads(await third.recv())["code"] == "MAX_SESSIONS_REACHED"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await third.recv()
            assert closed.value.rcvd.code == 1013


async def test_an_oversized_frame_closes_with_1009_behind_the_finals(port):
    async with websockets.connect(f"ws://127.0.0.1:{port}/ws/stt") as socket:
        await socket.send('{"type":"start_session"}')
        await socket.send(bytes(32_000))
        await socket.send(bytes(64_002))
        kinds = [json.loads(message)["type"] async for message in _until_closed(socket)]
    assert kinds[-1] == "session_ended"
    assert "final_transcript" in kinds
    assert "error" in kinds
    assert socket.close_code == 1009


async def test_a_client_killed_in_the_middle_frees_its_session(service, port):
    socket = await websockets.connect(f"ws://127.0.0.1:{port}/ws/stt")
    await socket.send('{"type":"start_session","session_id":"dies"}')
    await socket.recv()
    socket.transport.abort()
    async with asyncio.timeout(60):
        while service.closed != ["dies"]:
            await asyncio.sleep(0.01)
    await socket.close()


async def test_back_pressure_reaches_the_client(service, port):
    service.on_open = lambda session: session.room.clear()
    url = f"ws://127.0.0.1:{port}/ws/stt"
    async with websockets.connect(url, compression=None, close_timeout=0.1) as socket:
        await socket.send('{"type":"start_session"}')
        await socket.recv()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_send_frames(socket, 2_000), 1.0)
        assert service.sessions[0].num_samples == 0
        socket.transport.abort()


async def _send_frames(socket, num_frames):
    for _ in range(num_frames):
        await socket.send(bytes(64_000))


async def _until_closed(socket):
    while True:
        try:
            yield await socket.recv()
        except websockets.ConnectionClosed:
            return
