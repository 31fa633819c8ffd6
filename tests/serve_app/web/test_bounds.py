"""Requests that are made to cost much: each is refused in its door's shape, and nothing is left behind."""

import asyncio
import io
import time
import zlib
from functools import cache

import av
import httpx
import numpy as np
import pytest
from uvicorn.protocols.websockets import auto
from websockets.asyncio.client import connect
from websockets.frames import Opcode

from fakes.app_server import running_app
from fakes.asgi_scope import post_scope
from fakes.asgi_socket import AsgiSocket
from fakes.door_errors import shape_of
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from serve_app.access.keyring import Keyring
from serve_app.web import bounds
from serve_app.web.app import Guards, create_app
from serve_app.web.bounds import BodyPace
from serve_app.web.keepalive import MAX_UNREAD_BYTES, PatientWebSocket

AUDIO = wav(chirp(0.5, 16_000), 16_000)
UPLOADS = ["/transcribe", "/v1/audio/transcriptions", "/v1/listen"]
BODIES = [*UPLOADS, "/v1/auth/grant", "/v1/realtime/client_secrets", "/v1/realtime/transcription_sessions"]
READ_BYTES = 256 * 1024
"""What asyncio reads at once; the pings in it are answered together."""
FORM = "multipart/form-data; boundary=x"


def client_of(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


# headers and addresses


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({f"x-{index}": "a" for index in range(200)}, "", 431),
        ({"x-long": "a" * 70_000}, "", 431),
        ({}, "prompt=" + "a" * 50_000, 414),
    ],
    ids=["many headers", "long headers", "long address"],
)
async def test_more_headers_and_longer_addresses_than_anybody_needs(path, headers, query, status):
    async with client_of(create_app(FakeService(), FakeSettings())) as client:
        refused = await client.post(f"{path}?{query}", headers=headers)
    assert refused.status_code == status
    assert shape_of(path) in refused.json()


# bodies that trickle


class Trickle:
    """A POST whose body comes as the test says."""

    def __init__(self, app, path, content_type=FORM, *, is_live=False):
        self._is_live = is_live
        self._incoming = asyncio.Queue()
        self.said = []
        scope = post_scope(path, content_type, headers=[(b"transfer-encoding", b"chunked")])
        self._task = asyncio.create_task(app(scope, self._incoming.get, self._send))

    async def _send(self, message):
        """The client goes as soon as it is answered, unless it listens while it speaks."""
        self.said.append(message)
        if not self._is_live:
            self._incoming.put_nowait({"type": "http.disconnect"})

    def say(self, data, *, more=True):
        self._incoming.put_nowait({"type": "http.request", "body": data, "more_body": more})

    async def status(self):
        await asyncio.wait_for(self._task, 60)
        return self.said[0]["status"]


@pytest.mark.parametrize("path", BODIES)
async def test_a_body_that_does_not_come_is_given_up(path, monkeypatch):
    monkeypatch.setattr(bounds, "GRACE_S", 0.05)
    app = create_app(FakeService(), FakeSettings(), guards=Guards(pace=BodyPace(min_bytes_per_s=1_000)))
    body = Trickle(app, path)
    body.say(b"--x\r\n")
    assert await body.status() == 408
    assert shape_of(path).encode() in body.said[1]["body"]


async def test_a_body_that_trickles_is_given_up_though_something_always_comes(monkeypatch):
    monkeypatch.setattr(bounds, "GRACE_S", 0.2)
    app = create_app(FakeService(), FakeSettings(), guards=Guards(pace=BodyPace(min_bytes_per_s=1_000)))
    body = Trickle(app, "/transcribe", "audio/wav")

    async def trickle():
        while True:
            body.say(b"\0")
            await asyncio.sleep(0.01)

    trickling = asyncio.create_task(trickle())
    assert await body.status() == 408
    trickling.cancel()


async def test_the_longest_upload_holds_for_fast_bodies_too(monkeypatch):
    app = create_app(
        FakeService(), FakeSettings(), guards=Guards(pace=BodyPace(min_bytes_per_s=1e-3, timeout_s=0.1))
    )
    body = Trickle(app, "/transcribe", "audio/wav")
    body.say(AUDIO)
    assert await body.status() == 408


async def test_a_body_in_time_may_take_as_long_as_it_likes_to_be_answered(monkeypatch):
    monkeypatch.setattr(bounds, "GRACE_S", 0.05)
    service = FakeService(transcribe_gate=asyncio.Event())
    app = create_app(service, FakeSettings(), guards=Guards(pace=BodyPace(timeout_s=0.1)))
    body = Trickle(app, "/transcribe", "audio/wav")
    body.say(AUDIO, more=False)
    await asyncio.sleep(0.3)
    service.transcribe_gate.set()
    assert await body.status() == 200


async def test_a_live_body_is_paced_by_its_own_limits(monkeypatch):
    monkeypatch.setattr(bounds, "GRACE_S", 0.05)
    app = create_app(FakeService(), FakeSettings(), guards=Guards(pace=BodyPace(timeout_s=0.05)))
    body = Trickle(app, "/transcribe/stream", "audio/pcm;rate=16000", is_live=True)
    body.say(bytes(3200))
    await asyncio.sleep(0.3)
    body.say(bytes(3200), more=False)
    assert await body.status() == 200
    assert b"session_ended" in b"".join(message.get("body", b"") for message in body.said)


# forms


@pytest.mark.parametrize(
    "part",
    [
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + b"a" * 500_000 + b'"\r\n\r\n\r\n',
        b"--x\r\n" + b"".join(b"X-%d: a\r\n" % index for index in range(500)) + b"\r\n\r\n",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 500,
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n1\r\n' * 500,
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + b"a" * 500_000 + b"\r\n",
        b"--x\r\nContent-Disposition\r\n\r\n\r\n",
        b"--x" * 100_000,
    ],
    ids=["long header", "many headers", "many fields", "many files", "long field", "no value", "boundaries"],
)
@pytest.mark.parametrize("path", UPLOADS)
async def test_forms_that_are_bombs(path, part):
    app = create_app(FakeService(), FakeSettings())
    async with client_of(app) as client:
        refused = await client.post(path, content=part + b"--x--\r\n", headers={"content-type": FORM})
    assert refused.status_code in (400, 413)
    assert shape_of(path) in refused.json()


# durations


@cache
def hour_of_silence():
    """In less than a megabyte, as FLAC has it."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 65_535), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8_000
        for index in range(3600 * 8_000 // 65_535):
            frame.pts = index * 65_535
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("path", UPLOADS)
async def test_a_small_file_that_is_an_hour_long_is_decoded_up_to_the_limit(path):
    service = FakeService()
    bomb = hour_of_silence()
    assert len(bomb) < 1_000_000
    async with client_of(create_app(service, FakeSettings())) as client:
        began_s = time.process_time()
        refused = await client.post(path, files={"file": ("a.flac", bomb)}, data={"model": "whisper-1"})
        assert time.process_time() - began_s < 5
    assert refused.status_code == 413
    assert "longer than 30 s" in refused.text
    assert service.uploads == []


# JSON


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/realtime/client_secrets", "error"),
        ("/v1/realtime/transcription_sessions", "error"),
        ("/v1/auth/grant", "err_code"),
    ],
)
@pytest.mark.parametrize("body", [b"[" * 20_000, b'{"session":' * 20_000, b'{"a":"' + b"a" * 2_000_000])
async def test_json_that_is_deep_or_long(path, shape, body):
    async with client_of(
        create_app(FakeService(), FakeSettings(), guards=Guards(keys=Keyring(plain="k")))
    ) as client:
        headers = {"content-type": "application/json", "authorization": "Bearer k"}
        refused = await client.post(path, content=body, headers=headers)
    assert refused.status_code in (400, 413)
    assert shape in refused.json()


async def test_a_form_field_whose_json_is_deep():
    fields = {"model": "whisper-1", "chunking_strategy": '{"type":' * 5_000}
    async with client_of(create_app(FakeService(), FakeSettings())) as client:
        refused = await client.post("/v1/audio/transcriptions", files={"file": AUDIO}, data=fields)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "chunking_strategy"


# sockets


@pytest.mark.parametrize("path", ["/ws/stt", "/ws", "/v1/realtime"])
async def test_a_socket_that_starts_nothing_is_closed_however_much_it_says(path):
    """Sessions of the other doors open with the socket, and end where nothing comes."""
    service = FakeService()
    app = create_app(service, FakeSettings(start_timeout_s=0.2))
    async with AsgiSocket(app, path, query="intent=transcription") as socket:

        async def chatter():
            for _ in range(40):
                socket.say("{}")
                await asyncio.sleep(0.01)

        chatting = asyncio.create_task(chatter())
        said = []
        while "close" not in (message := await socket.heard()):
            said.append(message)
        await chatting
    assert "no session was started within 0.2 s" in str(said)
    assert message == {"close": 1008}
    assert service.sessions == []


@pytest.fixture(scope="module")
def port():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(auto, "AutoWebSocketsProtocol", PatientWebSocket)
        with running_app(create_app(FakeService(), FakeSettings(max_frame_bytes=64_000))) as port:
            yield port


async def test_a_compressed_message_that_is_a_bomb_closes_its_connection_alone(port):
    """Fifty megabytes of zeros in fifty kilobytes."""
    compressor = zlib.compressobj(wbits=-12)
    bomb = compressor.compress(bytes(50_000_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    async with connect(f"ws://127.0.0.1:{port}/ws/stt", proxy=None) as socket:
        await socket.send('{"type":"start_session"}')
        await socket.recv()
        frame = socket.protocol
        header = (
            bytes([0x80 | 0x40 | Opcode.BINARY, 0x80 | 127]) + len(bomb[:-4]).to_bytes(8, "big") + bytes(4)
        )
        assert frame.extensions, "compression was not agreed on"
        socket.transport.write(header + bomb[:-4])
        async with asyncio.timeout(60):
            await socket.wait_closed()
        assert socket.close_code == 1009
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/health/live")).status_code == 200


async def test_pongs_do_not_pile_up_for_a_client_that_does_not_read(port, monkeypatch):
    written = []
    answer = PatientWebSocket.handle_ping

    def watched(self):
        answer(self)
        written.append(self.transport.get_write_buffer_size())

    monkeypatch.setattr(PatientWebSocket, "handle_ping", watched)
    ping = bytes([0x80 | Opcode.PING, 0x80 | 125]) + bytes(4 + 125)
    async with connect(f"ws://127.0.0.1:{port}/ws/stt", proxy=None, close_timeout=0.1) as socket:
        socket.transport.pause_reading()
        for _ in range(200):
            socket.transport.write(ping * 2_000)
            while socket.transport.get_write_buffer_size():
                await asyncio.sleep(0.001)
        socket.transport.abort()
    assert len(written) > 100_000
    assert max(written) <= MAX_UNREAD_BYTES + READ_BYTES
