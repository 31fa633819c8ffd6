"""Recordings through OpenAI's doors: answers in every format, whole and streamed, and refusals."""

import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from fakes.asgi_scope import post_scope
from fakes.encoded_audio import chirp, encoded, wav
from fakes.fake_service import HELLO, FakeService
from fakes.local_metrics import LocalInstruments
from fakes.openai_client import app_of, client_of, door_of
from serve_app.core.errors import InferenceError, QueueFull, SpeakersUnavailable
from serve_app.core.jobs import Task
from serve_app.speakers.turns import SpeakerMode
from serve_app.web import door as doors
from serve_app.web.door_table import OPENAI, routes_of

TWO_SECONDS = wav(chirp(2.0, 16_000), 16_000)
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "openai_rest.json").read_text())
TRANSCRIPTIONS = "/v1/audio/transcriptions"


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


async def post(client, path=TRANSCRIPTIONS, data=TWO_SECONDS, **fields):
    files = {"file": ("talk.wav", data, "audio/wav")} if data is not None else {"other": ("x", b"x")}
    return await client.post(path, data={"model": "whisper-1", **fields}, files=files)


def events_of(answer):
    lines = [line for line in answer.text.split("\n\n") if line and not line.startswith(":")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_json_is_the_default(client, service, local):
    answer = await post(client)
    assert answer.status_code == 200
    assert answer.json() == GOLDEN["json"]
    audio, options = service.uploads[0]
    assert len(audio) == 32_000
    assert (options.task, options.language, options.word_timestamps) == (Task.TRANSCRIBE, None, False)
    done = {"status": "success", "cached": "false"}
    assert local.value("whisper_transcription_requests_total", done) == 1


@pytest.mark.parametrize(
    ("form", "media_type", "start"),
    [
        ("text", "text/plain", "Hello there. General Kenobi.\n"),
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> 00:00:00,900\nHello there.\n"),
        ("vtt", "text/vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:00.900\nHello there.\n"),
    ],
)
async def test_plain_formats(client, form, media_type, start):
    answer = await post(client, response_format=form)
    assert answer.headers["content-type"].startswith(media_type)
    assert answer.text.startswith(start)


async def test_verbose_json_with_words(client, service):
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    body = (await post(client, **fields)).json()
    assert [part["text"] for part in body["segments"]] == [" Hello there.", " General Kenobi."]
    assert body["words"] == GOLDEN["verbose_json_words"]["words"]
    assert service.uploads[0][1].word_timestamps is True


async def test_translations_are_english(client, service):
    answer = await post(client, "/v1/audio/translations", prompt="In short")
    assert answer.json() == GOLDEN["translation"]
    options = service.uploads[0][1]
    assert (options.task, options.prompt) == (Task.TRANSLATE, "In short")


@pytest.mark.parametrize("form", ["mp3", "webm", "flac", "m4a", "ogg"])
async def test_every_format_is_decoded(client, service, form):
    assert (await post(client, data=encoded(form, 1.0))).status_code == 200
    assert abs(len(service.uploads[0][0]) - 16_000) < 1_600


async def test_models(client):
    body = (await client.get("/v1/models")).json()
    assert [entry["id"] for entry in body["data"]] == [entry["id"] for entry in GOLDEN["models"]["data"]]
    for name in ("whisper-1", "base", "openai/whisper-base"):
        entry = (await client.get(f"/v1/models/{name}")).json()
        assert (entry["id"], entry["object"], entry["root"]) == (name, "model", "base")
    answer = await client.get("/v1/models/large-v3")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


# -- speakers --------------------------------------------------------------------------------------


DIARIZED = {"response_format": "diarized_json", "chunking_strategy": "auto"}


async def test_speakers_by_openais_model(client, service):
    answer = await post(client, model="gpt-4o-transcribe-diarize", **DIARIZED)
    assert answer.json() == GOLDEN["diarized_json"]
    assert service.uploads[0][1].speakers is SpeakerMode.VOICE


async def test_speakers_are_streamed_as_segments(client):
    answer = await post(client, stream="true", **DIARIZED)
    assert events_of(answer) == GOLDEN["stream_diarized_json"]


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_a_server_without_speakers_says_so(client, service, stream):
    service.transcribe_error = SpeakersUnavailable("speakers cannot be told apart here: make speakers")
    answer = await post(client, stream=stream, **DIARIZED)
    assert [answer.status_code, answer.json()] == GOLDEN["errors"]["SpeakersUnavailable"]


async def test_channels_are_kept_where_they_are_speakers(client, service):
    stereo = wav(np.stack([chirp(1.0, 16_000)] * 2, axis=1), 16_000)
    await post(client, data=stereo, diarization_backend="channel", **DIARIZED)
    assert service.uploads[0][0].shape == (16_000, 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text", "A: Hello there.\nB: General Kenobi.\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:00,900\nA: Hello there.\n"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:00.900\n<v A>Hello there.\n"),
    ],
)
async def test_other_formats_name_speakers_if_asked(client, name, expected):
    assert (await post(client, response_format=name, diarize="true")).text.startswith(expected)


# -- streams --------------------------------------------------------------------------------------


async def test_a_streamed_answer(client, service, local):
    answer = await post(client, stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert events_of(answer) == GOLDEN["stream"]
    done = {"status": "success", "cached": "false"}
    assert local.value("whisper_transcription_requests_total", done) == 1


def streamed_upload(model):
    """An upload's ASGI scope and incoming messages, for an answer that is read piece by piece."""
    form = httpx.Request(
        "POST", "http://sotto/", data={"model": model, "stream": "true"}, files={"file": TWO_SECONDS}
    )
    incoming = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": form.read()})
    scope = post_scope(TRANSCRIPTIONS, form.headers["content-type"])
    return scope, incoming


async def test_segments_come_while_the_rest_is_decoded(service):
    rest = asyncio.Event()

    class Slow(FakeService):
        async def transcribe(self, audio, options, progress=None, on_segment=None):
            on_segment(HELLO.segments[0])
            await rest.wait()
            on_segment(HELLO.segments[1])
            return HELLO

    parts = asyncio.Queue()
    scope, incoming = streamed_upload("whisper-1")
    app = app_of(Slow(), heartbeat_s=0.01)
    serving = asyncio.create_task(app(scope, incoming.get, parts.put))
    async with asyncio.timeout(60):
        assert (await parts.get())["status"] == 200
        assert b"Hello there." in (await parts.get())["body"]
        assert (await parts.get())["body"].startswith(b":")  # nothing to say for a while
        rest.set()
        while b"transcript.text.done" not in (await parts.get())["body"]:
            continue
        await serving


async def test_a_client_that_leaves_a_stream_ends_the_work(service):
    service.transcribe_gate = asyncio.Event()
    door = door_of(service, heartbeat_s=30.0)
    scope, incoming = streamed_upload("base")
    sent = asyncio.Queue()
    serving = asyncio.create_task(Starlette(routes=routes_of(door, [OPENAI]))(scope, incoming.get, sent.put))
    async with asyncio.timeout(60):
        await sent.get()
        assert door._num_uploads == 1
        incoming.put_nowait({"type": "http.disconnect"})
        await serving
    assert service.num_cancelled_uploads == 1
    assert door._num_uploads == 0


async def test_a_refused_recording_is_a_status_even_when_streamed(client, service):
    service.transcribe_error = QueueFull("busy")
    answer = await post(client, stream="true")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"]["code"] == "queue_full"


@pytest.mark.parametrize(
    ("error", "message"),
    [(InferenceError("model failed"), "model failed"), (RuntimeError("secret"), "internal error")],
)
async def test_a_stream_that_fails_on_its_way(service, error, message, monkeypatch):
    class Failing(FakeService):
        async def transcribe(self, audio, options, progress=None, on_segment=None):
            on_segment(HELLO.segments[0])
            await asyncio.sleep(0.01)
            raise error

    async with client_of(Failing()) as client:
        *_, last = events_of(await post(client, stream="true"))
    assert (last["type"], last["error"]["message"]) == ("error", message)


async def test_the_upload_slot_is_free_again(service, monkeypatch):
    monkeypatch.setattr(doors, "MAX_CONCURRENT_UPLOADS", 1)
    async with client_of(service) as client:
        for stream in ("true", "false", "true"):
            assert (await post(client, stream=stream)).status_code == 200
        assert (await post(client, response_format="no")).status_code == 400
        service.transcribe_error = QueueFull("busy")
        assert (await post(client, stream="true")).json()["error"]["message"] == "busy"
        service.transcribe_error = None
        assert (await post(client)).status_code == 200


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "data", "status", "code", "param"),
    [
        ({"model": "large-v9"}, TWO_SECONDS, 404, "model_not_found", "model"),
        ({"model": ""}, TWO_SECONDS, 400, None, "model"),
        ({"known_speaker_names[]": "Ada"}, TWO_SECONDS, 400, "unsupported_parameter", "known_speaker_names"),
        ({"language": "klingon"}, TWO_SECONDS, 400, "invalid_language", "language"),
        ({"temperature": "9"}, TWO_SECONDS, 400, "invalid_value", "temperature"),
        ({}, b"not audio at all", 400, "invalid_audio", None),
        ({}, b"", 400, "invalid_audio", None),
        ({}, None, 400, None, None),
        ({}, bytes(2 * 1024 * 1024), 413, None, None),
    ],
    ids=range(9),
)
async def test_refusals_have_openais_shape(client, service, fields, data, status, code, param):
    answer = await post(client, data=data, **fields)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["message"]
    assert service.uploads == []


async def test_a_body_that_is_no_form(client):
    answer = await client.post(TRANSCRIPTIONS, content=TWO_SECONDS, headers={"content-type": "audio/wav"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_nothing_internal_leaves(client, service):
    service.transcribe_error = RuntimeError("secret")
    answer = await post(client)
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": "Transcription failed",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }


async def test_before_a_model_is_loaded(service, client):
    service.ready = False
    assert (await post(client)).status_code == 503
    assert (await client.get("/v1/models")).json()["data"] == []
