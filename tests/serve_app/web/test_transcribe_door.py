import asyncio
import json
import struct

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.asgi_scope import post_scope
from fakes.encoded_audio import chirp, encoded, wav
from fakes.fake_service import HELLO, FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from fakes.transcribe_client import client_of, file_of
from serve_app.core.errors import InferenceError, QueueFull
from serve_app.core.jobs import Task
from serve_app.web import door
from serve_app.web.app import create_app

TWO_SECONDS = wav(chirp(2.0, 16_000), 16_000)
FFCONCAT = b"ffconcat version 1.0\nfile '/etc/passwd'\n"


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def local():
    return LocalInstruments()


@pytest.fixture
async def client(service, local):
    async with client_of(service, local) as client:
        yield client


async def test_a_multipart_file_becomes_the_documented_body(client, service):
    answer = await client.post("/transcribe", files=file_of(TWO_SECONDS))
    assert answer.status_code == 200
    body = answer.json()
    assert body["transcript"] == "Hello there. General Kenobi."
    assert list(body) == [
        "transcript",
        "confidence",
        "language",
        "language_probability",
        "duration",
        "segments",
        "processing_time",
        "real_time_factor",
        "model",
        "timestamp",
        "cached",
    ]
    assert body["processing_time"]["total_ms"] >= body["processing_time"]["transcribe_ms"]
    audio, options = service.uploads[0]
    assert np.array_equal(audio, chirp(2.0, 16_000))
    assert options.language is None
    assert options.vad_filter is True


@pytest.mark.parametrize("name", ["webm", "ogg", "mp3", "flac", "wav", "m4a"])
async def test_every_format_is_decoded(client, service, name):
    answer = await client.post("/transcribe", content=encoded(name, 1.0), headers={"content-type": "audio/x"})
    assert answer.status_code == 200
    assert abs(len(service.uploads[0][0]) - 16_000) < 1_600


async def test_choices_come_as_query_or_as_fields(client, service):
    query = {"language": "pt-BR", "vad_filter": "false", "task": "translate"}
    fields = {"prompt": "Dr. Silva", "word_timestamps": "true"}
    answer = await client.post("/transcribe", params=query, data=fields, files=file_of(TWO_SECONDS))
    assert [word["word"] for word in answer.json()["words"]] == ["Hello", "there", "General", "Kenobi"]
    options = service.uploads[0][1]
    assert (options.language, options.vad_filter, options.task) == ("pt", False, Task.TRANSLATE)
    assert (options.prompt, options.word_timestamps) == ("Dr. Silva", True)


@pytest.mark.parametrize(
    ("name", "content_type", "begin"),
    [
        ("text", "text/plain; charset=utf-8", "Hello there. General Kenobi.\n"),
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> 00:00:00,900\nHello there.\n"),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:00.000 --> 00:00:00.900\nHello there.\n"),
    ],
)
async def test_other_formats(client, service, name, content_type, begin):
    answer = await client.post(f"/transcribe?response_format={name}", files=file_of(TWO_SECONDS))
    assert answer.headers["content-type"] == content_type
    assert answer.text.startswith(begin)
    assert service.uploads[0][1].word_timestamps is (name != "text")


@pytest.mark.parametrize(
    ("files", "params", "status", "complaint"),
    [
        (file_of(b""), {}, 400, "empty"),
        (file_of(b"hello, this is no audio at all", "notes.txt"), {}, 400, "no audio"),
        (file_of(FFCONCAT, "talk.wav"), {}, 400, "no audio"),
        (file_of(TWO_SECONDS[:20]), {}, 400, ""),
        (file_of(wav(chirp(0.05, 16_000), 16_000)), {}, 400, "Audio too short: 0.05s (minimum: 0.1s)"),
        (file_of(encoded("aiff", 1.0), "talk.aiff"), {}, 415, "aiff"),
        (file_of(TWO_SECONDS), {"language": "klingon"}, 400, "klingon"),
        (file_of(TWO_SECONDS), {"response_format": "pdf"}, 400, "response_format"),
        ({"other": ("talk.wav", TWO_SECONDS)}, {}, 400, "'file'"),
    ],
)
async def test_bad_uploads(client, service, local, files, params, status, complaint):
    answer = await client.post("/transcribe", files=files, params=params)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert complaint in answer.json()["detail"]
    assert service.uploads == []
    failed = {"status": "error", "cached": "false"}
    assert local.value("whisper_transcription_requests_total", failed) == 1
    assert local.value("whisper_active_requests") == 0


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"plain", "text/plain", 415),
        (TWO_SECONDS, "audio/pcm;rate=16000", 400),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 400),
        (b"", "multipart/form-data", 400),
        (b"", "audio/wav", 400),
        (FFCONCAT, "audio/wav", 400),
    ],
)
async def test_bad_bodies(client, content, content_type, status):
    answer = await client.post("/transcribe", content=content, headers={"content-type": content_type})
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]


async def test_a_recording_cut_short_is_transcribed_with_a_warning(client, service):
    whole = wav(chirp(4.0, 16_000), 16_000)
    answer = await client.post("/transcribe", files=file_of(whole[: len(whole) // 2]))
    assert answer.status_code == 200
    assert "128044 bytes" in answer.json()["warning"]


async def test_a_recording_longer_than_the_limit_is_refused(service):
    async with client_of(service, max_audio_length_seconds=1.0) as client:
        answer = await client.post("/transcribe", files=file_of(TWO_SECONDS))
    assert answer.status_code == 413
    assert service.uploads == []


def noting(read, before_the_answer):
    """A client's application that notes how much of the body had been `read` when the answer began."""
    app = create_app(FakeService(), FakeSettings())

    async def asked(scope, receive, send):
        async def noted(message):
            if message["type"] == "http.response.start":
                before_the_answer.append(len(read))
            await send(message)

        await app(scope, receive, noted)

    return httpx.AsyncClient(transport=httpx.ASGITransport(asked), base_url="http://sotto")


async def test_an_announced_body_over_the_limit_is_refused_unread():
    read, before_the_answer = [], []

    async def body():
        for _ in range(1_000):
            read.append(1)
            yield bytes(100_000)

    async with noting(read, before_the_answer) as client:
        headers = {"content-type": "audio/wav", "content-length": "100000000"}
        answer = await client.post("/transcribe", content=body(), headers=headers)
    assert answer.status_code == 413
    assert "max: 1MB" in answer.json()["detail"]
    assert before_the_answer == [0]


@pytest.mark.parametrize("kind", ["raw", "multipart"])
async def test_a_body_without_length_is_cut_off_at_the_limit(kind):
    read, before_the_answer = [], []
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'

    async def body():
        yield TWO_SECONDS if kind == "raw" else head
        for _ in range(1_000):
            read.append(1)
            yield bytes(100_000)

    content_type = "audio/wav" if kind == "raw" else "multipart/form-data; boundary=x"
    async with noting(read, before_the_answer) as client:
        answer = await client.post("/transcribe", content=body(), headers={"content-type": content_type})
    assert answer.status_code == 413
    assert before_the_answer[0] < 60


async def test_a_field_as_large_as_a_file_is_refused(client):
    answer = await client.post("/transcribe", data={"prompt": "x" * 100_000}, files=file_of(TWO_SECONDS))
    assert answer.status_code == 400


async def test_two_files_are_refused(client):
    files = [("file", ("a.wav", TWO_SECONDS)), ("file", ("b.wav", TWO_SECONDS))]
    assert (await client.post("/transcribe", files=files)).status_code == 400


async def test_a_large_file_is_decoded_from_the_disk(service):
    audio = chirp(300.0, 16_000)
    async with client_of(service, max_file_size_mb=20, max_audio_length_seconds=400) as client:
        answer = await client.post("/transcribe", files=file_of(wav(audio, 16_000)))
    assert answer.status_code == 200
    assert np.array_equal(service.uploads[0][0], audio)


@pytest.mark.parametrize(
    ("error", "status", "detail", "retry_after"),
    [
        (QueueFull("Queue full: 20/20"), 503, "Queue full: 20/20", "2"),
        (InferenceError("the model failed"), 500, "the model failed", None),
        (RuntimeError("secret"), 500, "Transcription failed", None),
    ],
)
async def test_failures_of_the_service(client, service, error, status, detail, retry_after):
    service.transcribe_error = error
    answer = await client.post("/transcribe", files=file_of(TWO_SECONDS))
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    assert answer.headers.get("retry-after") == retry_after


async def test_uploads_are_counted(client, local):
    await client.post("/transcribe", files=file_of(TWO_SECONDS))
    done = {"status": "success", "cached": "false"}
    assert local.value("whisper_transcription_requests_total", done) == 1
    assert local.value("whisper_audio_duration_seconds_sum") == 2.0
    assert local.value("whisper_active_requests") == 0


async def test_too_many_uploads_at_once_are_asked_to_come_back(monkeypatch, service):
    monkeypatch.setattr(door, "MAX_CONCURRENT_UPLOADS", 1)
    service.transcribe_gate = asyncio.Event()
    async with client_of(service) as client:
        first = asyncio.create_task(client.post("/transcribe", files=file_of(TWO_SECONDS)))
        while not service.uploads:
            await asyncio.sleep(0.001)
        second = await client.post("/transcribe", files=file_of(TWO_SECONDS))
        service.transcribe_gate.set()
        assert (await first).status_code == 200
    assert second.status_code == 503
    assert second.headers["retry-after"] == "2"


async def test_a_client_that_goes_away_cancels_its_transcription(service):
    service.transcribe_gate = asyncio.Event()
    app = create_app(service, FakeSettings())
    incoming = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": TWO_SECONDS, "more_body": False})
    scope = post_scope("/transcribe", "audio/wav")
    sent = []

    async def send(message):
        sent.append(message)

    task = asyncio.create_task(app(scope, incoming.get, send))
    while not service.uploads:
        await asyncio.sleep(0.001)
    incoming.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(task, 60)
    assert service.num_cancelled_uploads == 1


async def test_what_is_sent_as_json_has_no_nan(client, service):
    service.transcript = type(HELLO)("", (), "en", float("nan"), 2.0, "base", 0.0)
    answer = await client.post("/transcribe", files=file_of(TWO_SECONDS))
    assert json.loads(answer.content, parse_constant=pytest.fail)["confidence"] is None


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_uploads_are_answered_with_text_or_a_clients_error(data):
    source = data.draw(st.sampled_from([TWO_SECONDS[:8_000], encoded("ogg", 1.0), encoded("mp3", 1.0)]))
    upload = bytearray(source[: data.draw(st.integers(0, len(source)))])
    for _ in range(data.draw(st.integers(0, 5))):
        if upload:
            upload[data.draw(st.integers(0, min(len(upload), 200) - 1))] = data.draw(st.integers(0, 255))

    async def post():
        async with client_of(FakeService()) as client:
            return await client.post("/transcribe", files=file_of(bytes(upload)))

    answer = asyncio.run(post())
    assert answer.status_code in (200, 400, 413, 415), answer.text


def test_a_header_that_claims_four_gigabytes_is_only_as_long_as_its_bytes():
    huge = wav(chirp(1.0, 16_000), 16_000, data_bytes=0xFFFFFFFF)
    assert struct.unpack("<I", huge[40:44]) == (0xFFFFFFFF,)

    async def post():
        async with client_of(FakeService()) as client:
            return await client.post("/transcribe", files=file_of(huge))

    assert asyncio.run(post()).status_code == 200
