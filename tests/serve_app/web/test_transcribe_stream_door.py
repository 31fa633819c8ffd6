import asyncio
import json
from dataclasses import replace

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.app_server import running_app
from fakes.asgi_scope import post_scope
from fakes.encoded_audio import chirp, encoded
from fakes.fake_service import FakeService, FakeSettings
from serve_app.core.errors import SessionExists
from serve_app.core.events import EndReason
from serve_app.web.app import create_app
from serve_app.web.live import shell

SECOND = bytes(32_000)
PCM = "audio/pcm;rate=16000"


class Exchange:
    """One HTTP request without a network, both directions in the test's hands."""

    def __init__(self, service, content_type=PCM, query="", **changes):
        self.app = create_app(service, FakeSettings(**changes))
        self.incoming = asyncio.Queue()
        self.outgoing = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.scope = post_scope("/transcribe/stream", content_type, query=query)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.app(self.scope, self.incoming.get, self._send))
        start = await asyncio.wait_for(self.outgoing.get(), 60)
        self.status = start["status"]
        self.headers = dict(start["headers"])
        return self

    async def __aexit__(self, *error):
        self.reads.set()
        self.go_away()
        await asyncio.wait_for(self.task, 60)

    async def _send(self, message):
        await self.reads.wait()
        self.outgoing.put_nowait(message)

    def upload(self, data, last=False):
        self.incoming.put_nowait({"type": "http.request", "body": data, "more_body": not last})

    def finish(self):
        self.upload(b"", last=True)

    def go_away(self):
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def line(self):
        """The next line; None at the end of the answer."""
        message = await asyncio.wait_for(self.outgoing.get(), 60)
        if not message.get("more_body"):
            return None
        assert message["body"].count(b"\n") == 1
        assert message["body"].endswith(b"\n")
        return json.loads(message["body"])

    async def lines(self):
        found = []
        while (line := await self.line()) is not None:
            found.append(line)
        return found


def kinds(lines):
    return [line.get("state") or line["type"] for line in lines]


async def test_events_come_while_the_body_is_still_uploaded():
    service = FakeService()
    async with Exchange(service) as exchange:
        assert exchange.status == 200
        assert exchange.headers[b"content-type"] == b"application/x-ndjson"
        assert (await exchange.line())["type"] == "session_started"
        for _ in range(3):
            exchange.upload(SECOND)
            while (await exchange.line())["type"] != "partial_transcript":
                pass
        exchange.finish()
        lines = await exchange.lines()
    assert kinds(lines)[-2:] == ["final_transcript", "session_ended"]
    assert lines[-1]["reason"] == "completed"
    assert lines[-1]["total_audio_ms"] == 3000.0
    assert service.closed == [service.sessions[0].session_id]


async def test_options_are_query_parameters():
    service = FakeService()
    query = "session_id=abc&language=pt-BR&vad_filter=false&partial_results=0&prompt=p&sample_rate=8000"
    async with Exchange(service, content_type="audio/pcm", query=query) as exchange:
        exchange.upload(bytes(16_000), last=True)
        lines = await exchange.lines()
    assert {line["session_id"] for line in lines} == {"abc"}
    options = service.sessions[0].options
    assert (options.language, options.partials, options.prompt) == ("pt", False, "p")
    assert options.endpointing.enabled is False
    assert abs(service.sessions[0].num_samples - 16_000) <= 1


@pytest.mark.parametrize("name", ["webm", "ogg", "mp3", "flac", "wav"])
async def test_containers_are_decoded_as_they_arrive(name):
    service = FakeService()
    data = encoded(name, 4.0)
    async with Exchange(service, content_type=f"audio/{name}") as exchange:
        for start in range(0, len(data), 4_000):
            exchange.upload(data[start : start + 4_000])
        exchange.finish()
        lines = await exchange.lines()
    assert lines[-1]["reason"] == "completed"
    assert abs(lines[-1]["total_audio_ms"] - 4_000) < 120


async def test_container_text_comes_before_the_end_of_the_body():
    data = encoded("webm", 4.0)
    async with Exchange(FakeService(), content_type="audio/webm") as exchange:
        exchange.upload(data[: len(data) * 3 // 4])
        while (await exchange.line())["type"] != "partial_transcript":
            pass


@pytest.mark.parametrize(
    ("content_type", "query", "status", "complaint"),
    [
        ("text/plain", "", 415, "carries no audio"),
        ("audio/pcm;rate=7999", "", 400, "7999"),
        ("audio/pcm;rate=192001", "", 400, "192001"),
        (PCM, "language=klingon", 400, "klingon"),
        (PCM, "vad_threshold=nan", 400, "vad_threshold"),
    ],
)
async def test_what_is_wrong_before_the_first_line_is_a_status(content_type, query, status, complaint):
    service = FakeService()
    async with Exchange(service, content_type, query) as exchange:
        assert exchange.status == status
        detail = json.loads((await exchange.outgoing.get())["body"])["detail"]
    assert complaint in detail
    assert service.sessions == []


async def test_a_full_service_is_503_and_a_taken_id_409():
    async with Exchange(FakeService(max_sessions=0)) as exchange:
        assert exchange.status == 503
        assert exchange.headers[b"retry-after"] == b"2"
    refusing = FakeService(refuse_with=SessionExists("session 's' is in use"))
    async with Exchange(refusing) as exchange:
        assert exchange.status == 409
    assert refusing.closed == []


@pytest.mark.parametrize(
    ("content_type", "parts", "complaint"),
    [
        (PCM, [SECOND, b"\0"], "within a sample"),
        ("audio/webm", [encoded("webm", 2.0)[:-2_000]], None),
        ("audio/wav", [b"ffconcat version 1.0\nfile '/etc/passwd'\n"], "format"),
        ("audio/wav", [b"this is no audio at all, is it?"], "format"),
        ("audio/wav", [b""], "empty"),
        ("audio/mp4", [encoded("m4a", 2.0)], "index"),
    ],
)
async def test_what_is_wrong_later_is_a_line_and_what_was_spoken_is_kept(content_type, parts, complaint):
    service = FakeService()
    async with Exchange(service, content_type) as exchange:
        for part in parts:
            exchange.upload(part)
        exchange.finish()
        lines = await exchange.lines()
    errors = [line for line in lines if line["type"] == "error"]
    assert lines[-1]["type"] == "session_ended"
    if complaint is None:
        assert "final_transcript" in kinds(lines)
    else:
        assert complaint in errors[0]["message"]
        assert lines[-1]["reason"] == "error"
    if service.sessions[0].num_samples:
        assert "final_transcript" in kinds(lines)


async def test_nothing_at_all_is_a_session_without_segments():
    async with Exchange(FakeService()) as exchange:
        exchange.finish()
        lines = await exchange.lines()
    assert kinds(lines) == ["session_started", "session_ended"]


async def test_heartbeats_only_while_nothing_else_is_said():
    async with Exchange(FakeService(), heartbeat_s=0.02) as exchange:
        assert (await exchange.line())["type"] == "session_started"
        assert await exchange.line() == {"type": "heartbeat", "t_ms": 0.0}
        exchange.upload(bytes(8_000))
        while (line := await exchange.line()) == {"type": "heartbeat", "t_ms": 0.0}:
            pass
        assert line["type"] == "vad_event"
        assert await exchange.line() == {"type": "heartbeat", "t_ms": 250.0}
        exchange.finish()
        lines = await exchange.lines()
    assert kinds(lines)[-1] == "session_ended"


async def test_a_client_that_goes_away_frees_its_session():
    service = FakeService()
    async with Exchange(service) as exchange:
        exchange.upload(SECOND)
        await exchange.line()
        exchange.go_away()
        await asyncio.wait_for(exchange.task, 60)
        assert service.live == {}


async def test_a_client_that_goes_away_while_finals_are_computed_frees_its_session():
    service = FakeService(on_open=lambda session: setattr(session, "end", lambda: None))
    async with Exchange(service) as exchange:
        exchange.finish()
        await exchange.line()
        await asyncio.sleep(0.01)
        exchange.go_away()
        await asyncio.wait_for(exchange.task, 60)
        assert service.live == {}


async def test_a_body_that_stands_still_ends_with_timeout_and_what_was_spoken():
    async with Exchange(FakeService(), idle_timeout_s=0.2) as exchange:
        exchange.upload(SECOND)
        lines = await exchange.lines()
    assert "final_transcript" in kinds(lines)
    assert lines[-1]["reason"] == "timeout"


async def test_a_container_that_stands_still_ends_with_timeout_too():
    data = encoded("ogg", 2.0)
    async with Exchange(FakeService(), "audio/ogg", idle_timeout_s=0.3) as exchange:
        exchange.upload(data[: len(data) // 2])
        lines = await exchange.lines()
    assert lines[-1]["reason"] == "timeout"


async def test_a_session_that_does_not_finish_is_cancelled(monkeypatch):
    monkeypatch.setattr(shell, "IDLE", replace(shell.IDLE, drain_s=0.05))
    service = FakeService(on_open=lambda session: setattr(session, "end", lambda: None))
    async with Exchange(service, idle_timeout_s=0.05) as exchange:
        lines = await exchange.lines()
    assert lines[-1]["reason"] == "timeout"
    assert service.sessions[0].cancelled is EndReason.TIMEOUT


async def test_the_rest_of_a_body_is_read_when_we_have_ended():
    """A client that sends everything before it reads must not wait for ever."""
    service = FakeService(on_open=lambda session: setattr(session, "end", lambda: None))
    async with Exchange(service, "audio/wav") as exchange:
        exchange.upload(b"this is no audio at all, is it?" * 10)
        while (await exchange.line())["type"] != "error":
            pass
        for _ in range(20):
            exchange.upload(SECOND)
        async with asyncio.timeout(60):
            while exchange.incoming.qsize():
                await asyncio.sleep(0.001)
        service.sessions[0].cancel(EndReason.COMPLETED)
        lines = await exchange.lines()
    assert kinds(lines) == ["session_ended"]
    assert lines[-1]["reason"] == "error"


async def test_a_client_that_goes_away_when_we_have_ended_frees_its_session():
    service = FakeService(on_open=lambda session: setattr(session, "end", lambda: None))
    async with Exchange(service, "audio/wav") as exchange:
        exchange.upload(b"this is no audio at all, is it?" * 10)
        while (await exchange.line())["type"] != "error":
            pass
        exchange.go_away()
        await asyncio.wait_for(exchange.task, 10)  # not the time that finals may take
        assert service.live == {}


async def test_heartbeats_go_on_while_the_last_finals_are_computed():
    service = FakeService(on_open=lambda session: setattr(session, "end", lambda: None))
    async with Exchange(service, heartbeat_s=0.02, idle_timeout_s=0.1) as exchange:
        exchange.upload(bytes(8_000))
        async with asyncio.timeout(60):
            while service.sessions[0].num_samples == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.3)  # ended by the idle limit
        while not exchange.outgoing.empty():
            exchange.outgoing.get_nowait()
        assert await exchange.line() == {"type": "heartbeat", "t_ms": 250.0}
        service.sessions[0].cancel(EndReason.COMPLETED)
        lines = await exchange.lines()
    assert lines[-1]["reason"] == "timeout"


async def test_a_client_that_reads_last_gets_every_final():
    service = FakeService()
    async with Exchange(service) as exchange:
        await exchange.line()
        exchange.reads.clear()
        for number in range(1, 501):
            exchange.upload(bytes(640))
            async with asyncio.timeout(60):
                while service.sessions[0].num_samples < number * 320:
                    await asyncio.sleep(0)
            service.sessions[0].flush()
        exchange.finish()
        exchange.reads.set()
        lines = await exchange.lines()
    assert kinds(lines).count("final_transcript") == 500
    assert lines[-1]["reason"] == "completed"


async def test_too_much_unread_ends_the_answer_with_its_reason(monkeypatch):
    monkeypatch.setattr(shell, "MAX_UNREAD_BYTES", 20_000)
    service = FakeService()
    async with Exchange(service) as exchange:
        await exchange.line()
        exchange.reads.clear()
        session = service.sessions[0]
        for number in range(1, 100):
            exchange.upload(bytes(6_400))
            async with asyncio.timeout(60):
                while session.num_samples < number * 3_200 and not session.cancelled:
                    await asyncio.sleep(0.001)
            session.flush()
        exchange.reads.set()
        lines = await exchange.lines()
    assert session.cancelled is EndReason.ERROR
    assert (lines[-2]["message"], lines[-1]["reason"]) == ("too much was not read", "error")
    assert len(lines) < 10


async def test_a_full_buffer_holds_the_upload_back_and_is_no_idleness():
    service = FakeService(on_open=lambda session: session.room.clear())
    async with Exchange(service, idle_timeout_s=1.0) as exchange:
        for _ in range(10):
            exchange.upload(SECOND)
        while exchange.incoming.qsize() > 9:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.2)  # longer than the limit
        assert exchange.incoming.qsize() == 9
        service.sessions[0].room.set()
        exchange.finish()
        lines = await exchange.lines()
    assert lines[-1]["reason"] == "completed"
    assert lines[-1]["total_audio_ms"] == 10_000.0


@pytest.mark.slow
async def test_a_client_that_takes_no_lines_is_given_up():
    service = FakeService()
    async with Exchange(service, max_session_s=0.1) as exchange:
        await exchange.line()
        exchange.reads.clear()
        exchange.upload(SECOND)
        await asyncio.wait_for(exchange.task, 60)
        assert service.live == {}


async def test_an_unexpected_failure_says_nothing_of_its_inside():
    service = FakeService()
    async with Exchange(service) as exchange:
        await exchange.line()
        service.sessions[0].fail_with = RuntimeError("secret")
        exchange.upload(SECOND)
        lines = await exchange.lines()
    assert [line["type"] for line in lines] == ["error", "session_ended"]
    assert (lines[0]["code"], lines[0]["message"]) == ("INTERNAL_ERROR", "internal error")
    assert lines[1]["reason"] == "error"


def pieces(data, sizes):
    found, at = [], 0
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return [*found, data[at:]]


AUDIO = np.random.default_rng(3).integers(-3000, 3000, 30_000, np.int16).tobytes()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 20_001), max_size=12))
def test_however_the_body_is_cut_the_lines_are_the_same(sizes):
    async def run(parts):
        async with Exchange(FakeService(), query="session_id=s") as exchange:
            for part in parts:
                exchange.upload(part)
            exchange.finish()
            return await exchange.lines()

    async def both():
        return await run(pieces(AUDIO, sizes)), await run([AUDIO])

    in_pieces, whole = asyncio.run(both())
    assert in_pieces == whole


@pytest.fixture(scope="module")
def network():
    service = FakeService()
    with running_app(create_app(service, FakeSettings(heartbeat_s=0.05))) as port:
        yield service, f"http://127.0.0.1:{port}/transcribe/stream"


async def test_full_duplex_over_a_real_server_loses_no_byte(network):
    service, url = network
    audio = chirp(20.0, 16_000).tobytes()
    port = httpx.URL(url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /transcribe/stream HTTP/1.1\r\nhost: x\r\ncontent-type: {PCM}\r\nconnection: close\r\n"
    writer.write(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
    heard = asyncio.Event()

    async def listen():
        answer = b""
        while data := await reader.read(65_536):
            answer += data
            if b"partial_transcript" in answer:
                heard.set()
        return answer

    listening = asyncio.create_task(listen())
    for start in range(0, len(audio), 6_400):
        chunk = audio[start : start + 6_400]
        writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await writer.drain()
        if start > len(audio) // 2:
            await asyncio.wait_for(heard.wait(), 60)  # text comes before the body ends
    writer.write(b"0\r\n\r\n")
    answer = await asyncio.wait_for(listening, 60)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"type":"session_ended"' in answer
    assert service.sessions[-1].audio.tobytes() == audio


async def test_a_real_client_that_hangs_up_frees_its_session(network):
    service, url = network

    async def body():
        yield SECOND
        await asyncio.Event().wait()

    async with httpx.AsyncClient(timeout=60) as client, asyncio.timeout(60):
        posting = asyncio.create_task(client.post(url, content=body(), headers={"content-type": PCM}))
        while not service.live:
            await asyncio.sleep(0.01)
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
    async with asyncio.timeout(60):
        while service.live:
            await asyncio.sleep(0.01)
