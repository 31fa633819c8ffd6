"""A socket that audio arrives on is alive, whatever its pongs: a real server with little patience."""

import asyncio
from types import SimpleNamespace

import pytest
import uvicorn
import websockets
from uvicorn.protocols.websockets import auto
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app
from serve_app.web.keepalive import (
    GATHER_S,
    MAX_SMALL_BYTES,
    PatientWebSocket,
    let_audio_be_a_sign_of_life,
)

pytestmark = pytest.mark.slow

PATIENCE_S = 1.0
LASTS_S = 3 * PATIENCE_S


def server(protocol):
    app = create_app(FakeService(), FakeSettings())
    return running_app(app, ws=protocol, ws_ping_interval=PATIENCE_S, ws_ping_timeout=PATIENCE_S)


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


class ByHand:
    """The protocol's loop and transport; its time passes when the test says so."""

    def __init__(self):
        self.now_s = 0.0
        self.reads = True
        self._later = []

    def time(self):
        return self.now_s

    def call_later(self, delay_s, action):
        timer = SimpleNamespace(at_s=self.now_s + delay_s, action=action, cancel=lambda: None)
        self._later.append(timer)
        return timer

    def pass_s(self, seconds):
        self.now_s += seconds
        due, self._later = [t for t in self._later if t.at_s <= self.now_s], []
        for timer in due:
            timer.action()

    def pause_reading(self):
        self.reads = False

    def resume_reading(self):
        self.reads = True

    def is_closing(self):
        return False


def protocol_by_hand():
    hand = ByHand()
    config = uvicorn.Config(lambda: None, ws=PatientWebSocket, log_config=None)
    protocol = PatientWebSocket(config, ServerState(), {}, hand)
    protocol.transport = hand
    protocol.conn.state = State.OPEN
    protocol.conn.parser = protocol.conn.parse()  # the one from the start still waits for a handshake
    return hand, protocol


def frames(num_frames, num_bytes=256):
    return b"".join(Frame(Opcode.BINARY, bytes(num_bytes)).serialize(mask=True) for _ in range(num_frames))


async def take(protocol, num_frames):
    for _ in range(num_frames):
        await protocol.receive()


async def test_reading_waits_while_small_frames_come_in_quick_succession():
    hand, protocol = protocol_by_hand()
    hand.pass_s(1.0)
    protocol.data_received(frames(1))
    await take(protocol, 1)
    assert hand.reads  # the first of them is not known to be one of many
    hand.pass_s(0.003)
    protocol.data_received(frames(1))
    await take(protocol, 1)
    assert not hand.reads
    hand.pass_s(GATHER_S)
    assert hand.reads
    protocol.data_received(frames(12))
    await take(protocol, 11)
    assert not hand.reads
    hand.pass_s(GATHER_S)
    assert not hand.reads  # the door has not taken all of them
    await take(protocol, 1)
    assert hand.reads


async def test_reading_never_waits_for_a_client_ahead_of_time_or_one_that_speaks_slowly():
    hand, protocol = protocol_by_hand()
    for pause_s, num_bytes in ((0.001, 2 * MAX_SMALL_BYTES), (0.1, 640), (0.1, 3200)):
        for _ in range(3):
            hand.pass_s(pause_s)
            protocol.data_received(frames(1, num_bytes))
            await take(protocol, 1)
            assert hand.reads


def test_servers_of_this_process_can_be_told(monkeypatch):
    monkeypatch.setattr(auto, "AutoWebSocketsProtocol", auto.AutoWebSocketsProtocol)
    let_audio_be_a_sign_of_life()
    config = uvicorn.Config(lambda: None)
    config.load()
    assert config.ws_protocol_class is PatientWebSocket
