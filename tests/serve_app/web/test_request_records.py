"""One line per request, made at its end: who, by which door, with what outcome, and how much."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect

from fakes.app_server import running_app
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import HELLO, FakeSettings
from serve_app.access.caller import Caller
from serve_app.core.errors import MaxSessionsReached
from serve_app.web.app import create_app
from serve_app.web.callers import set_caller
from serve_app.web.door import Kept
from serve_app.web.request_records import RequestRecords, current_record

SECOND = bytes(32_000)
RECORDING = wav(chirp(1.0, 16_000), 16_000)


class KeptRecords(list[dict[str, Any]]):
    """Records as they come; a connection's comes after its client has seen the end."""

    is_failing = False

    def __call__(self, record: dict[str, Any]) -> None:
        self.append(record)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not self:
                await asyncio.sleep(0.005)
        return self.pop(0)


@pytest.fixture
def kept() -> KeptRecords:
    return KeptRecords()


@pytest.fixture
def port(service, kept):
    with running_app(create_app(service, FakeSettings(), kept=Kept(keeper=kept))) as port:
        yield port


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/transcribe", {}),
        ("/v1/audio/transcriptions", {"model": "base"}),
        ("/v1/listen", {}),
    ],
)
async def test_an_upload_by_every_door(port, kept, path, fields):
    async with client(port) as http:
        answer = await http.post(
            path, files={"file": ("a.wav", RECORDING)}, data=fields, headers={"x-request-id": "mine"}
        )
    assert answer.status_code == 200
    record = await kept.next()
    assert record.pop("duration_s") >= 0
    assert record == {
        "request_id": "mine",
        "address": "127.0.0.1",
        "method": "POST",
        "door": path,
        "status": 200,
        "audio_s": HELLO.duration_s,
        "num_finals": len(HELLO.segments),
        "num_chars": len(HELLO.text),
    }


async def test_a_streamed_answer_counts_as_much(port, kept):
    async with client(port) as http:
        await http.post(
            "/v1/audio/transcriptions",
            files={"file": ("a.wav", RECORDING)},
            data={"model": "base", "stream": "true"},
        )
    assert (await kept.next())["num_chars"] == len(HELLO.text)


async def test_a_live_session(port, kept, service):
    async with connect(f"ws://127.0.0.1:{port}/ws/stt", proxy=None) as socket:
        await socket.send(json.dumps({"type": "start_session", "session_id": "s-1"}))
        await socket.send(SECOND)
        await socket.send(json.dumps({"type": "end_session"}))
        finals = [json.loads(frame) async for frame in socket]
    said = "".join(frame["text"] for frame in finals if frame["type"] == "final_transcript")
    record = await kept.next()
    assert record["session_id"] == "s-1"
    assert (record["method"], record["door"]) == ("WS", "/ws/stt")
    assert (record["close_code"], record["reason"]) == (1000, "completed")
    assert (record["audio_s"], record["num_finals"], record["num_chars"]) == (1.0, 1, len(said))


async def test_a_client_that_leaves(port, kept, service):
    async with connect(f"ws://127.0.0.1:{port}/ws/stt", proxy=None) as socket:
        await socket.send(json.dumps({"type": "start_session", "session_id": "s-2"}))
        await socket.recv()
        await socket.close(4000)
    record = await kept.next()
    assert (record["close_code"], record["reason"], record["session_id"]) == (4000, "client left", "s-2")


async def test_a_stream_over_http(port, kept):
    async with client(port) as http:
        await http.post("/transcribe/stream", content=SECOND, headers={"content-type": "audio/pcm"})
    record = await kept.next()
    assert (record["status"], record["door"], record["reason"]) == (200, "/transcribe/stream", "completed")
    assert (record["audio_s"], record["num_finals"]) == (1.0, 1)


async def test_what_is_refused_is_named_by_its_code(port, kept, service):
    service.refuse_with = MaxSessionsReached("Maximum sessions reached: the patient said no")
    async with connect(f"ws://127.0.0.1:{port}/ws/stt", proxy=None) as socket:
        await socket.send(json.dumps({"type": "start_session"}))
        await socket.recv()
    assert (await kept.next())["reason"] == "MAX_SESSIONS_REACHED"
    async with client(port) as http:
        for path in ("/transcribe", "/v1/audio/translations", "/v1/listen"):
            answer = await http.post(path, content=b"no audio", headers={"content-type": "text/plain"})
            record = await kept.next()
            assert record["status"] == answer.status_code >= 400
            assert record["reason"], path
            assert "patient" not in str(record)


async def test_no_text_of_the_clients_but_ids(port, kept):
    async with client(port) as http:
        with capture_logs() as lines:
            await http.get("/patients/jane?prompt=measles", headers={"user-agent": "measles"})
            await http.get("/v1/models/measles")
            record, found = await kept.next(), await kept.next()
    assert (record["door"], record["status"]) == ("unknown", 404)
    assert found["door"] == "/v1/models/{name}"
    assert "measles" not in str([record, found, lines])


@pytest.mark.parametrize(("level", "levels"), [("DEBUG", ["debug", "debug", "info"]), ("INFO", ["info"])])
async def test_probes_are_quiet(port, kept, caplog, level, levels):
    async with client(port) as http:
        with capture_logs() as lines, caplog.at_level(level, logger="sotto.requests"):
            await http.get("/health")
            await http.get("/metrics")
            await http.get("/v1/models")
            record = await kept.next()
            kept.append(record)
    assert [line["log_level"] for line in lines if line["event"] == "request"] == levels
    assert [record["door"] for record in kept] == ["/v1/models"]


async def test_who_it_was():
    kept = KeptRecords()

    async def app(scope, receive, send):
        set_caller(scope, Caller(key_id="k1", name="ward 3", address="10.0.0.9"))
        current_record().session_id = "s"
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def send(message):
        return None

    records = RequestRecords(app, [], kept, iter([10.0, 12.5]).__next__)
    await records({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send)
    (record,) = kept
    assert (record["key_id"], record["key_name"], record["address"]) == ("k1", "ward 3", "10.0.0.9")
    assert (record["session_id"], record["duration_s"]) == ("s", 2.5)


async def test_a_door_that_fails_is_recorded_and_still_fails():
    kept = KeptRecords()

    async def app(scope, receive, send):
        raise ZeroDivisionError("the patient said")

    with pytest.raises(ZeroDivisionError):
        await RequestRecords(app, [], kept)({"type": "websocket", "path": "/ws", "headers": []}, None, None)
    assert kept[0]["reason"] == "ZeroDivisionError"
    assert "patient" not in str(kept)


def test_outside_of_a_request_a_record_goes_nowhere():
    current_record().audio_s = 3.0
    assert current_record().audio_s == 0.0
