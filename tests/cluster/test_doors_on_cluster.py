"""The HTTP doors and bad input, through HAProxy and the real graph."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.asyncio.client import connect

from benchmarks.service import ServiceUnderTest
from cluster.conftest import SPOKEN, clip, reference, word_error_rate
from sotto_client.messages import FinalTranscript, SessionEnded
from sotto_client.recordings import UploadOptions, transcribe_file, transcribe_file_as
from sotto_client.streams import transcribe_stream

pytestmark = [pytest.mark.cluster, pytest.mark.models]


async def test_an_upload_is_transcribed(service: ServiceUnderTest) -> None:
    answer = await transcribe_file(
        SPOKEN / "visit.flac", url=service.url, options=UploadOptions(language="en")
    )
    assert word_error_rate(reference("visit"), answer.transcript) <= 0.08
    assert answer.body["model"] == "tiny.en"
    assert answer.body["duration"] == pytest.approx(len(clip("visit")) / 16_000, abs=0.02)
    starts = [segment.start_s for segment in answer.segments]
    assert starts == sorted(starts)


@pytest.mark.parametrize(("name", "first"), [("srt", "1\n00:00:"), ("vtt", "WEBVTT\n"), ("text", "Hello")])
async def test_other_formats(service: ServiceUnderTest, name: str, first: str) -> None:
    body = await transcribe_file_as(SPOKEN / "phone_call.flac", name, url=service.url)
    assert body.startswith(first)


def upload_body(kind: str) -> tuple[bytes, str]:
    if kind == "container":
        return (SPOKEN / "visit.flac").read_bytes(), "audio/flac"
    return clip("visit").tobytes(), "audio/pcm;rate=16000"


async def held_back(data: bytes, heard: asyncio.Event) -> AsyncIterator[bytes]:
    """The last fifth comes once `heard` is set."""
    size = len(data) // 60 + 1
    for start in range(0, len(data), size):
        if start > len(data) * 4 // 5:
            await heard.wait()
        yield data[start : start + size]


@pytest.mark.parametrize("kind", ["container", "pcm"])
async def test_ndjson_lines_come_before_the_upload_ends(service: ServiceUnderTest, kind: str) -> None:
    data, content_type = upload_body(kind)
    heard = asyncio.Event()
    finals: list[FinalTranscript] = []
    async for message in transcribe_stream(
        held_back(data, heard), url=service.url, content_type=content_type, query={"language": "en"}
    ):
        if isinstance(message, FinalTranscript):
            finals.append(message)
            if len(finals) == 3:
                heard.set()
    assert isinstance(message, SessionEnded)
    assert word_error_rate(reference("visit"), " ".join(final.text for final in finals)) <= 0.08


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("kind", ["container", "pcm"])
async def test_ndjson_over_cleartext_http2(service: ServiceUnderTest, kind: str) -> None:
    data, content_type = upload_body(kind)
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "-N", "--http2-prior-knowledge", "--noproxy", "*", "-X", "POST", "-T", "."),
        *("-H", f"Content-Type: {content_type}", "-w", "%{http_version}"),
        f"{service.url}/transcribe/stream?language=en",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert curl.stdin is not None
    assert curl.stdout is not None
    heard = asyncio.Event()

    async def send() -> None:
        async for piece in held_back(data, heard):
            curl.stdin.write(piece)
            await curl.stdin.drain()
        curl.stdin.close()

    sender = asyncio.create_task(send())
    lines, num_finals = [], 0
    while line := await curl.stdout.readline():
        lines.append(line.decode())
        num_finals += b"final_transcript" in line
        if num_finals == 3:
            heard.set()
    await sender
    assert await curl.wait() == 0
    assert lines[-1] == "2"
    assert json.loads(lines[-2])["type"] == "session_ended"


@pytest.mark.parametrize(
    ("first", "then", "code"),
    [
        ("{", None, "INVALID_MESSAGE"),
        ('{"type":"sing"}', None, "INVALID_MESSAGE"),
        (b"\0" * 3200, None, "INVALID_MESSAGE"),
        ('{"type":"start_session","config":{"sample_rate":7999}}', None, "INVALID_MESSAGE"),
        ('{"type":"start_session","config":{"sample_rate":192001}}', None, "INVALID_MESSAGE"),
        ('{"type":"start_session","config":{"lang_code":"tlh"}}', None, "INVALID_MESSAGE"),
        ('{"type":"start_session","config":{"lang_code":"de"}}', None, "INVALID_MESSAGE"),  # tiny.en only
        ('{"type":"start_session"}', b"\0" * 321, "INVALID_MESSAGE"),
        ('{"type":"start_session"}', b"\0" * (1 << 21), "INVALID_MESSAGE"),
        ('{"type":"start_session"}', '{"type":"start_session"}', "INVALID_MESSAGE"),
    ],
)
async def test_bad_live_input_is_answered_in_the_doors_own_shape(
    service: ServiceUnderTest, first: str | bytes, then: str | bytes | None, code: str
) -> None:
    url = service.url.replace("http", "ws") + "/ws/stt"
    async with connect(url, max_size=None, proxy=None) as socket:
        await socket.send(first)
        answer = json.loads(await socket.recv())
        if then is not None:
            assert answer["type"] == "session_started"
            await socket.send(then)
            answer = json.loads(await socket.recv())
    assert answer["type"] == "error"
    assert answer["code"] == code
    assert answer["message"]


async def test_a_session_id_in_use_is_refused_and_free_again_afterwards(service: ServiceUnderTest) -> None:
    url = service.url.replace("http", "ws") + "/ws/stt"
    start = json.dumps({"type": "start_session", "session_id": "twice"})
    async with connect(url, proxy=None) as one, connect(url, proxy=None) as other:
        await one.send(start)
        assert json.loads(await one.recv())["type"] == "session_started"
        await other.send(start)
        assert json.loads(await other.recv())["code"] == "SESSION_EXISTS"
        await one.close()
    async with asyncio.timeout(120):
        while not await is_free(url, start):
            await asyncio.sleep(0.1)


async def is_free(url: str, start: str) -> bool:
    async with connect(url, proxy=None) as socket:
        await socket.send(start)
        return bool(json.loads(await socket.recv())["type"] == "session_started")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", 415),
        (b"this is no audio at all" * 100, 415),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", 400),
    ],
)
async def test_bad_uploads(service: ServiceUnderTest, data: bytes, status: int) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(f"{service.url}/transcribe", files={"file": ("a.wav", data)})
        assert answer.status_code in {status, 400, 415}
        assert answer.json()["detail"]
        alive = await client.get(f"{service.url}/health/live")
    assert alive.status_code == 200


async def test_status_names_the_model_and_metrics_cover_the_cluster(service: ServiceUnderTest) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        status = (await client.get(f"{service.url}/health/status")).json()
        assert status["model"]["model_size"] == "tiny.en"
        assert status["accepting_requests"] is True
        for path in ("/", "/health", "/health/live", "/health/ready", "/health/startup", "/ready"):
            assert (await client.get(service.url + path)).status_code == 200, path
        for _ in range(150):  # Ray's exporters report every few seconds
            text = (await client.get(f"{service.url}/metrics")).text
            if 'stt_jobs_processed_total{job_type="final",status="success"}' in text:
                break
            await asyncio.sleep(2)
        else:
            pytest.fail("no job counted after 300 s")
    assert "ray_" not in text
    assert "whisper_transcription_requests_total" in text
