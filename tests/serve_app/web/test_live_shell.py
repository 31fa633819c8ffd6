"""What the live shell does for any dialect: a session a channel, beats, and an end to what goes wrong."""

import asyncio

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from fakes.asgi_socket import AsgiSocket, kinds
from fakes.fake_service import FakeService, FakeSettings
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.dialect import Audio, Dialect, End, Farewell, Flush, KeepAlive, Open, RawAudio
from serve_app.protocols.native.dialect import NativeDialect
from serve_app.telemetry.metrics import no_metrics
from serve_app.web.door import Door
from serve_app.web.door_table import live_endpoint
from serve_app.web.live.channels import Channels
from serve_app.web.live.shell import LiveShell
from serve_app.web.live.transports import WebSocketTransport

SECOND = bytes(32_000)


class _Stereo(Dialect):
    """Two channels, a session each; says what channel an event was of."""

    def __init__(self, parameters=()):
        self.audio = RawAudio(channels=2, split_channels=True)

    def open_at_once(self):
        return (Open(SessionChoices(), self.audio),)

    def receive(self, frame):
        if isinstance(frame, bytes):
            return (Audio(frame),)
        return {"end": (End(),), "flush 1": (Flush(1),), "keep": (KeepAlive(),)}[frame]

    def send(self, event, channel=0):
        name = type(event).__name__
        return (f'{{"type":"{name}","channel":{channel}}}',) if name in ("Final", "SessionEnded") else ()

    def refuse(self, error):
        return (f'{{"type":"error","message":"{error}"}}',)

    def heartbeat(self, received_ms):
        return (f'{{"type":"beat","ms":{received_ms}}}',)

    def farewell(self, close_code, totals):
        frame = f'{{"type":"bye","ms":{totals.audio_ms},"finals":{totals.num_finals}}}'
        return Farewell((frame,), close_code)


def stereo_app(service, dialect=_Stereo, **changes):
    door = Door(service, FakeSettings(**changes), no_metrics())
    return Starlette(routes=[WebSocketRoute("/stereo", live_endpoint(door, dialect))])


@pytest.mark.parametrize("cut", [3, 4, 1_000])
async def test_each_channel_has_its_session(cut):
    samples = np.arange(2_000, dtype="<i2").reshape(-1, 2)
    audio, service = samples.tobytes(), FakeService()
    async with AsgiSocket(stereo_app(service), "/stereo") as socket:
        for start in range(0, len(audio), cut):
            socket.say(audio[start : start + cut])
        socket.say("flush 1")
        socket.say(np.array([[1, 2]], "<i2").tobytes())
        socket.say("end")
        messages = await socket.heard_until("close")
    left, right = service.sessions
    assert left.audio.tolist() == [*samples[:, 0].tolist(), 1]
    assert right.audio.tolist() == [*samples[:, 1].tolist(), 2]
    finals = [message["channel"] for message in messages if message.get("type") == "Final"]
    assert sorted(finals) == [0, 1, 1]
    assert messages[-2]["ms"] == pytest.approx(1_001 / 16)
    assert messages[-2]["finals"] == 3
    assert len(service.closed) == 2


async def test_when_one_channel_finds_no_room_none_is_open():
    service = FakeService(max_sessions=1)
    async with AsgiSocket(stereo_app(service), "/stereo") as socket:
        messages = await socket.heard_until("close")
    assert kinds(messages) == ["error", "bye", "close"]
    assert messages[-1] == {"close": 1013}
    assert service.live == {}


async def test_heartbeats_come_when_nothing_else_does():
    class Beating(_Stereo):
        heartbeat_s = 0.03

    async with AsgiSocket(stereo_app(FakeService(), Beating), "/stereo") as socket:
        socket.say(bytes(640))
        beats = [await socket.heard() for _ in range(3)]
    assert beats[-1] == {"type": "beat", "ms": 10.0}


async def test_keeping_alive_is_no_silence():
    service = FakeService()
    async with AsgiSocket(stereo_app(service, idle_timeout_s=1.0), "/stereo") as socket:
        for _ in range(15):
            socket.say("keep")
            await asyncio.sleep(0.1)
        assert len(service.live) == 2
        messages = await socket.heard_until("close")
    assert messages[-1] == {"close": 1000}


async def test_what_a_dialect_does_wrong_is_an_internal_error():
    class Broken(_Stereo):
        def receive(self, frame):
            raise RuntimeError("secret")

    async with AsgiSocket(stereo_app(FakeService(), Broken), "/stereo") as socket:
        socket.say("anything")
        messages = await socket.heard_until("close")
    assert messages[0] == {"type": "error", "message": "internal error"}
    assert messages[-1] == {"close": 1011}


async def test_a_dialect_that_cannot_write_closes_with_1011():
    class Mute(_Stereo):
        def send(self, event, channel=0):
            raise RuntimeError("secret")

    service = FakeService()
    async with AsgiSocket(stereo_app(service, Mute), "/stereo") as socket:
        assert (await socket.heard_until("close"))[-1] == {"close": 1011}
    assert service.live == {}


async def test_a_fault_with_an_event_is_not_the_services(monkeypatch):
    """Sessions hand their events over within a call of the service, which serves others too."""

    def fail(self, channel, event):
        raise RuntimeError("secret")

    service = FakeService()
    async with AsgiSocket(stereo_app(service), "/stereo") as socket:
        socket.say(bytes(640))
        while not service.sessions or not service.sessions[0].num_samples:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(Channels, "for_client", fail)
        service.sessions[0].flush()  # raises nothing
        messages = await socket.heard_until("close")
    assert messages[0] == {"type": "error", "message": "internal error"}
    assert messages[-1] == {"close": 1011}
    assert service.live == {}


async def test_too_much_unread_closes_the_connection_and_slows_nobody_else():
    service = FakeService()
    door = Door(service, FakeSettings(), no_metrics())

    def route(websocket):
        transport = WebSocketTransport(websocket)
        return LiveShell(
            transport, door, NativeDialect(), usage=door.usage({}), max_unread_bytes=20_000
        ).run()

    app = Starlette(routes=[WebSocketRoute("/ws/stt", route)])
    async with AsgiSocket(app) as deaf:
        await deaf.start()
        deaf.stall()
        deaf.say(SECOND)
        for _ in range(60):
            deaf.say({"type": "flush"})
            deaf.say(bytes(640))
        while deaf.num_untaken:
            await asyncio.sleep(0.001)
        async with AsgiSocket(app) as other:
            other.say({"type": "start_session", "session_id": "s2"})
            await other.heard()
            other.say(SECOND)
            other.say({"type": "end_session"})
            assert (await other.heard_until("close"))[-2]["reason"] == "completed"
        deaf.read_on()
        messages = await deaf.heard_until("close")
    assert messages[-2]["message"] == "too much was not read"
    assert messages[-1] == {"close": 1008}
    assert len(messages) < 10
    assert "s1" in service.closed
