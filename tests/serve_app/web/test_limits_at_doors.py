"""Limits of keys and addresses, as each door tells its clients."""

import asyncio
import json

import httpx
import pytest

from fakes.app_server import running_app
from fakes.asgi_socket import AsgiSocket, kinds
from fakes.door_conversations import TARGETS
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.kept_keys import MemoryKeys, cheap_key
from fakes.local_metrics import LocalInstruments
from serve_app.access.caller import KeyLimits
from serve_app.access.keyring import Keyring
from serve_app.access.limits import Limiter
from serve_app.core.events import EndReason
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import Guards, create_app

TWO_SECONDS = wav(chirp(2.0, 16_000), 16_000)
SECOND = bytes(32_000)
LIVE = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
UPLOADS = {
    "/transcribe": ("detail", {"files": {"file": ("a.wav", TWO_SECONDS)}}),
    "/v1/audio/transcriptions": (
        "error",
        {"files": {"file": ("a.wav", TWO_SECONDS)}, "data": {"model": "whisper-1"}},
    ),
    "/v1/listen": ("err_code", {"content": TWO_SECONDS, "headers": {"content-type": "audio/wav"}}),
    "/transcribe/stream": ("detail", {"content": TWO_SECONDS, "headers": {"content-type": "audio/wav"}}),
}


def app_of(service=None, instruments=None, **limits):
    limiter = Limiter(of_address=KeyLimits(**limits))
    metrics = Metrics(instruments) if instruments else None
    return create_app(
        service or FakeService(), FakeSettings(), metrics, guards=Guards(limiter=limiter)
    ), limiter


def client_of(app):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=("203.0.113.9", 1)), base_url="http://test"
    )


# requests


@pytest.mark.parametrize("path", UPLOADS)
async def test_requests_over_the_limit_are_told_when_to_come_back(path):
    service, instruments = FakeService(), LocalInstruments()
    app, _ = app_of(service, instruments, requests_per_minute=100, requests_per_day=1)
    shape, request = UPLOADS[path]
    async with client_of(app) as client:
        first = await client.post(path, **request)
        refused = await client.post(path, **request)
    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == '"minute";q=100;w=60, "day";q=1;w=86400'
    assert '"day";r=0;t=' in first.headers["ratelimit"]
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 86_400
    assert shape in refused.json()
    assert "1 requests a day" in refused.text
    assert len(service.uploads) + len(service.sessions) == 1
    assert instruments.value("stt_refused_total", {"request_type": "request", "reason": "limit"}) == 1


async def test_probes_and_documents_are_not_counted():
    app, _ = app_of(requests_per_day=1)
    async with client_of(app) as client:
        for path in ("/", "/page/main.js", "/health/live", "/ready", "/metrics", "/openapi.json") * 2:
            assert (await client.get(path)).status_code == 200, path
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 429


@LIVE
async def test_a_connection_over_the_limit_is_accepted_told_and_closed(target):
    service = FakeService()
    app, _ = app_of(service, requests_per_day=1)
    async with AsgiSocket(app, target.path, query=target.query):
        pass
    async with AsgiSocket(app, target.path, query=target.query) as socket:
        messages = await until_close(socket)
    assert "1 requests a day" in str(messages[-2])
    assert messages[-1] == {"close": 1013}
    assert service.live == {}


async def test_each_key_has_its_own_limits_wherever_it_is_used():
    service = FakeService()
    small, small_key = cheap_key(limits=KeyLimits(requests_per_day=1))
    large, large_key = cheap_key(limits=KeyLimits(requests_per_day=3))
    keys = Keyring(MemoryKeys(small_key, large_key))
    await keys.refresh()
    app = create_app(
        service,
        FakeSettings(),
        guards=Guards(keys=keys, limiter=Limiter(of_key=KeyLimits(requests_per_day=2))),
    )
    statuses = {}
    for text in (small, large):
        statuses[text] = []
        for index in range(4):
            transport = httpx.ASGITransport(app, client=(f"203.0.113.{index}", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answer = await client.get("/v1/models", headers={"authorization": f"Bearer {text}"})
                statuses[text].append(answer.status_code)
    assert statuses == {small: [200, 429, 429, 429], large: [200, 200, 200, 429]}


# sessions


async def until_close(socket):
    messages = []
    while True:
        messages.append(await socket.heard())
        if "close" in messages[-1]:
            return messages


def begin(socket, target):
    """What opens a session, at the latest with its first audio."""
    for frame in target.valid[:2]:
        socket.say(frame)


def opened(service):
    """What is set once a session was opened."""
    has_opened = asyncio.Event()
    service.on_open = lambda session: has_opened.set()
    return has_opened


@LIVE
async def test_a_session_over_the_limit_is_told_and_closed_and_room_comes_back(target):
    service = FakeService()
    app, limiter = app_of(service, sessions=1)
    has_opened = opened(service)
    async with AsgiSocket(app, target.path, query=target.query) as first:
        begin(first, target)
        await asyncio.wait_for(has_opened.wait(), 60)
        async with AsgiSocket(app, target.path, query=target.query) as second:
            begin(second, target)
            messages = await until_close(second)
        assert "1 sessions at once for this address" in str(messages[-2])
        assert messages[-1] == {"close": 1013}
    await limiter.settled()
    has_opened.clear()
    async with AsgiSocket(app, target.path, query=target.query) as third:
        begin(third, target)
        await asyncio.wait_for(has_opened.wait(), 60)
    await limiter.settled()


async def test_a_stream_over_the_limit_of_sessions_is_refused_by_its_status():
    app, limiter = app_of(sessions=1)
    with running_app(app) as port:
        async with AsgiSocket(app, "/ws/stt") as socket:
            await socket.start()
            async with httpx.AsyncClient(trust_env=False) as client:
                url = f"http://127.0.0.1:{port}/transcribe/stream"
                answer = await client.post(url, content=TWO_SECONDS, headers={"content-type": "audio/wav"})
        await limiter.settled()
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "5"
    assert "1 sessions at once" in answer.json()["detail"]


async def test_a_session_that_was_refused_for_what_it_says_holds_no_second_place():
    app, limiter = app_of(sessions=1)
    async with AsgiSocket(app) as socket:
        refused = await socket.start(lang_code="tlh")
        assert refused["code"] == "INVALID_MESSAGE"
        assert (await socket.start())["type"] == "session_started"
    await limiter.settled()


# audio


SAMPLES = [target for target in TARGETS if target.path in ("/ws/stt", "/v1/realtime")]
SAMPLES += [target for target in TARGETS if target.name in ("/ws start", "/asr diff", "/v1/listen raw")]


@pytest.mark.parametrize("target", SAMPLES, ids=lambda target: target.name)
async def test_a_session_whose_audio_runs_out_is_told_and_keeps_what_was_spoken(target):
    """A frame has at least a twentieth of a second."""
    service = FakeService()
    app, limiter = app_of(service, audio_minutes_per_day=2 / 60)
    has_opened = opened(service)
    async with AsgiSocket(app, target.path, query=target.query) as socket:
        begin(socket, target)
        await asyncio.wait_for(has_opened.wait(), 60)
        for _ in range(100):
            socket.say(next(frame for frame in target.valid if isinstance(frame, bytes) or "append" in frame))
        messages = await until_close(socket)
    await limiter.settled()
    assert "0.0333333 minutes of audio a day" in str(messages)
    assert messages[-1] == {"close": 1013}
    assert 0 < sum(session.num_samples for session in service.sessions) <= 2 * 16_000
    assert {(session.num_flushes, session.cancelled) for session in service.sessions} == {(1, None)}


async def test_the_order_of_what_a_native_client_is_told():
    service = FakeService()
    app, limiter = app_of(service, audio_minutes_per_day=2 / 60)
    async with AsgiSocket(app) as socket:
        await socket.start()
        for _ in range(3):
            socket.say(SECOND)
        messages = await socket.heard_until("close")
    await limiter.settled()
    assert [kind for kind in kinds(messages) if kind in ("error", "final_transcript", "session_ended")] == [
        "error",
        "final_transcript",
        "session_ended",
    ]
    error = next(message for message in messages if message["type"] == "error")
    assert (error["code"], error["retryable"]) == ("LIMIT_REACHED", True)
    assert messages[-2]["reason"] == EndReason.ERROR
    assert service.sessions[0].num_samples == 32_000


async def test_an_hour_within_the_limit_is_never_held_up():
    service = FakeService()
    app, limiter = app_of(service, audio_minutes_per_day=1)
    async with AsgiSocket(app) as socket:
        await socket.start()
        for _ in range(30):
            socket.say(bytes(64_000))
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    await limiter.settled()
    assert messages[-2]["reason"] == EndReason.COMPLETED
    assert service.sessions[0].num_samples == 60 * 16_000


@pytest.mark.parametrize("path", ["/transcribe", "/v1/audio/transcriptions", "/v1/listen"])
async def test_recordings_use_up_audio(path):
    service = FakeService()
    app, _ = app_of(service, audio_minutes_per_day=5 / 60)
    shape, request = UPLOADS[path]
    async with client_of(app) as client:
        answers = [await client.post(path, **request) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert shape in answers[2].json()
    assert "minutes of audio a day" in answers[2].text
    assert len(service.uploads) == 2


async def test_a_recording_longer_than_the_limit_need_not_be_tried_again():
    app, _ = app_of(audio_minutes_per_minute=1 / 60)
    async with client_of(app) as client:
        answer = await client.post("/transcribe", **UPLOADS["/transcribe"][1])
    assert answer.status_code == 413
    assert "retry-after" not in answer.headers


async def test_openai_clients_are_told_in_their_words():
    app, _ = app_of(requests_per_day=1)
    async with client_of(app) as client:
        await client.get("/v1/models")
        refused = await client.get("/v1/models")
    error = json.loads(refused.content)["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
