"""What live doors make of streams without a header: decoded, or refused; samples only where they are."""

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from fakes.asgi_socket import AsgiSocket
from fakes.encoded_audio import encoded
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app

pytestmark = pytest.mark.slow

FILES = Path(__file__).parents[2] / "golden" / "files"
FORMATS = ("wav", "mp3", "ogg", "flac", "m4a", "webm", "aac")
SOCKETS = ("/asr", "/ws", "/ws/stream", "/v1/listen")
WEBM = encoded("webm")
CLUSTER = WEBM.index(b"\x1f\x43\xb6\x75")

HEADLESS = {
    "webm from a cluster on": WEBM[CLUSTER:],
    "webm from a block on": WEBM[WEBM.index(b"\xa3", CLUSTER + 20) :],
    "webm from anywhere on": WEBM[WEBM.index(b"\xa3", CLUSTER + 20) + 30 :],
    "ogg from a page on": encoded("ogg")[encoded("ogg").index(b"OggS", 200) :],
    "mp4 from a fragment on": encoded("mp4_fragments")[encoded("mp4_fragments").index(b"moof") - 4 :],
}


def app_of(service):
    return create_app(service, FakeSettings(allowed_formats=FORMATS))


def end_of(path):
    return {"type": "end_session"} if path == "/ws/stream" else b""


def complaints(messages):
    """Errors in whatever shape the door has for them."""
    found = [message.get("error") or message.get("description") for message in messages]
    return [text for text in found if text] + [m["message"] for m in messages if m.get("type") == "error"]


async def spoken(path, data, step):
    """The session that a door opens for this stream, and what the door says."""
    service = FakeService()
    async with AsgiSocket(app_of(service), path) as socket:
        socket.say(data[:1])
        for start in range(1, len(data), step):
            socket.say(data[start : start + step])
        socket.say(end_of(path))
        messages = await socket.heard_until("close")
    return service.sessions[0], messages


@pytest.mark.parametrize("step", [100, 60_000])
@pytest.mark.parametrize("name", ["bare.mp3", "plain.aac"])
@pytest.mark.parametrize("path", SOCKETS)
async def test_frames_without_a_tag_are_decoded(path, name, step):
    session, messages = await spoken(path, (FILES / name).read_bytes(), step)
    assert 3.8 * 16_000 < session.num_samples < 4.0 * 16_000
    assert np.abs(session.audio).max() > 3_000
    assert complaints(messages) == []
    assert messages[-1] == {"close": 1000}


@pytest.mark.parametrize("name", ["bare.mp3", "plain.aac"])
async def test_frames_without_a_tag_are_decoded_from_a_body(name):
    service = FakeService()
    transport = httpx.ASGITransport(app_of(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        content = (FILES / name).read_bytes()
        answer = await client.post(
            "/transcribe/stream", content=content, headers={"content-type": "application/octet-stream"}
        )
    assert '"completed"' in answer.text.splitlines()[-1]
    assert 3.8 * 16_000 < service.sessions[0].num_samples < 4.0 * 16_000


@pytest.mark.parametrize("name", ["bare.mp3", "plain.aac"])
@pytest.mark.parametrize("path", ["/asr", "/ws"])
async def test_frames_are_found_behind_the_rest_of_one(path, name):
    session, messages = await spoken(path, (FILES / name).read_bytes()[1_001:], 640)
    assert session.num_samples > 3.5 * 16_000
    assert messages[-1] == {"close": 1000}


@pytest.mark.parametrize("step", [100, 60_000])
@pytest.mark.parametrize("name", HEADLESS)
@pytest.mark.parametrize("path", ["/asr", "/ws"])
async def test_the_middle_of_a_recording_is_refused(path, name, step):
    session, messages = await spoken(path, HEADLESS[name], step)
    (complaint,) = complaints(messages)
    assert "begins behind its header" in complaint
    assert session.num_samples == 0
    assert messages[-1] == {"close": 1008}


@pytest.mark.parametrize("name", ["webm from a cluster on", "ogg from a page on", "mp4 from a fragment on"])
@pytest.mark.parametrize("path", ["/ws/stream", "/v1/listen"])
async def test_it_is_refused_at_once_where_only_containers_are_taken(path, name):
    service = FakeService()
    async with AsgiSocket(app_of(service), path) as socket:
        socket.say(HEADLESS[name][:400])  # no end follows: the refusal may not wait for one
        messages = await socket.heard_until("close")
    assert "begins behind its header" in complaints(messages)[0]


@pytest.mark.parametrize("path", ["/asr", "/ws"])
@pytest.mark.parametrize("first", [1, 2, 15, 4_096])
async def test_samples_stay_samples(path, first):
    t = np.arange(16_000) / 16_000
    quiet = np.random.default_rng(1).normal(-3, 6, len(t))  # full of set bits, as frame headers are
    tone = 9_000 * np.sin(2 * np.pi * 330 * t)
    audio = np.concatenate([quiet, np.zeros(3_000), tone]).astype("<i2")
    service = FakeService()
    async with AsgiSocket(app_of(service), path) as socket:
        data = audio.tobytes()
        socket.say(data[:first])
        for start in range(first, len(data), 640):
            socket.say(data[start : start + 640])
        socket.say(b"")
        await socket.heard_until("close")
    np.testing.assert_array_equal(service.sessions[0].audio, audio)


async def test_samples_are_passed_on_once_an_eighth_of_a_second_has_come():
    service = FakeService()
    async with AsgiSocket(app_of(service), "/asr") as socket:
        for _ in range(20):
            socket.say(bytes(640))
        while not (service.sessions and service.sessions[0].num_samples >= 3_200):
            await asyncio.sleep(0.001)
