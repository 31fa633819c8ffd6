"""A socket that audio arrives on is alive, whatever its pongs: a real server with little patience."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
import websockets
from fakes.fake_service import FakeService, FakeSettings
from uvicorn.protocols.websockets import auto

from serve_app.web.app import create_app
from serve_app.web.keepalive import PatientWebSocket, let_audio_be_a_sign_of_life

PATIENCE_S = 1.0
LASTS_S = 3 * PATIENCE_S


@contextmanager
def server(protocol):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(FakeService(), FakeSettings()),
        ws=protocol,
        ws_ping_interval=PATIENCE_S,
        ws_ping_timeout=PATIENCE_S,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(10)
        listener.close()


async def deaf_client(port, num_frames):
    """Answers no ping, since it never reads; sends audio for three times the server's patience."""
    url = f"ws://127.0.0.1:{port}/ws/stt"
    async with websockets.connect(url, ping_interval=None, close_timeout=0.1) as client:
        await client.send('{"type":"start_session"}')
        await client.recv()
        client.transport.pause_reading()
        for _ in range(num_frames):
            await client.send(bytes(640))
            await asyncio.sleep(LASTS_S / max(1, num_frames))
        if not num_frames:
            await asyncio.sleep(LASTS_S)
        client.transport.resume_reading()
        await client.send('{"type":"end_session"}')
        async for message in client:
            if '"session_ended"' in message:
                return message
    return None


async def test_a_client_that_sends_but_answers_no_ping_is_kept():
    with server(PatientWebSocket) as port:
        assert '"completed"' in await deaf_client(port, 60)


async def test_without_patience_it_is_lost():
    with server(auto.AutoWebSocketsProtocol) as port, pytest.raises(websockets.ConnectionClosed):
        await deaf_client(port, 60)


async def test_a_client_that_neither_sends_nor_answers_is_given_up():
    with server(PatientWebSocket) as port, pytest.raises(websockets.ConnectionClosed):
        await deaf_client(port, 0)


def test_servers_of_this_process_can_be_told(monkeypatch):
    monkeypatch.setattr(auto, "AutoWebSocketsProtocol", auto.AutoWebSocketsProtocol)
    let_audio_be_a_sign_of_life()
    config = uvicorn.Config(lambda: None)
    config.load()
    assert config.ws_protocol_class is PatientWebSocket
