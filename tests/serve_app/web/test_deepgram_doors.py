import asyncio
import hashlib
import io
import json
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fakes.app_server import running_app
from fakes.asgi_scope import post_scope
from fakes.asgi_socket import AsgiSocket
from fakes.encoded_audio import chirp, encoded, wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from serve_app.core.errors import (
    InferenceError,
    MaxSessionsReached,
    QueueFull,
    SpeakersUnavailable,
)
from serve_app.speakers.turns import SpeakerMode
from serve_app.telemetry.metrics import Metrics
from serve_app.web.door import Door
from serve_app.web.door_table import DEEPGRAM, routes_of
from serve_app.web.errors import exception_handlers

TWO_SECONDS = wav(chirp(2.0, 16_000), 16_000)


def container_of(samples, name):
    """int16 `(n, num_channels)` at 16 kHz as a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format=name, subtype="PCM_16")
    return file.getvalue()


def app_of(service, local=None, **changes):
    door = Door(service, FakeSettings(**changes), Metrics(local or LocalInstruments()))
    return Starlette(routes=routes_of(door, [DEEPGRAM]), exception_handlers=exception_handlers())


@asynccontextmanager
async def client_of(service, local=None, **changes):
    transport = httpx.ASGITransport(app_of(service, local, **changes), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        yield client


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
async def client(service):
    async with client_of(service) as client:
        yield client


async def listen(client, content=TWO_SECONDS, content_type="audio/wav", **query):
    return await client.post(
        "/v1/listen", params=query, content=content, headers={"content-type": content_type}
    )


@pytest.mark.parametrize(
    "content_type", ["audio/wav", "application/octet-stream", "text/plain", "audio/pcm", ""]
)
async def test_a_recording_whatever_it_is_called(client, service, content_type):
    answer = await listen(client, content_type=content_type, punctuate="true")
    assert answer.status_code == 200
    body = answer.json()
    (channel,) = body["results"]["channels"]
    assert channel["alternatives"][0]["transcript"] == "Hello there. General Kenobi."
    assert body["metadata"]["sha256"] == hashlib.sha256(TWO_SECONDS).hexdigest()
    assert answer.headers["dg-request-id"] == body["metadata"]["request_id"]
    assert len(service.uploads[0][0]) == 32_000


async def test_options_reach_the_service(client, service):
    await listen(client, language="pt-BR", keyterm="Sotto", smart_format="true", numerals="false")
    _, options = service.uploads[0]
    assert (options.language, options.hotwords, options.word_timestamps) == ("pt", "Sotto", True)
    formatting = options.formatting
    assert (formatting.casing, formatting.spacing, formatting.numerals) == (True, True, False)


@pytest.mark.parametrize(("query", "language"), [({}, "pt"), ({"detect_language": "true"}, None)])
async def test_the_servers_language_stands_unless_it_is_to_be_detected(service, query, language):
    async with client_of(service, language="pt") as client:
        await listen(client, **query)
    assert service.uploads[0][1].language == language


async def test_raw_samples_are_told_by_their_encoding(client, service):
    audio = chirp(1.0, 16_000)
    answer = await listen(client, audio.tobytes(), encoding="linear16", sample_rate="16000")
    assert answer.status_code == 200
    assert np.array_equal(service.uploads[0][0], audio)


async def test_each_channel_of_raw_samples_gets_its_transcript(client, service):
    left, right = chirp(1.0, 16_000), chirp(1.0, 16_000)[::-1].copy()
    data = np.stack([left, right], axis=1).tobytes()
    query = {"encoding": "linear16", "sample_rate": "16000", "channels": "2", "multichannel": "true"}
    body = (await listen(client, data, **query)).json()
    assert (body["metadata"]["channels"], len(body["results"]["channels"])) == (2, 2)
    assert np.array_equal(service.uploads[0][0], left)
    assert np.array_equal(service.uploads[1][0], right)


@pytest.mark.parametrize("name", ["wav", "flac"])
async def test_each_channel_of_a_container_gets_its_transcript(client, service, name):
    left, right = chirp(1.0, 16_000), chirp(1.0, 16_000)[::-1]
    data = container_of(np.stack([left, right], axis=1), name)
    body = (await listen(client, data, multichannel="true", utterances="true")).json()
    assert (body["metadata"]["channels"], len(body["results"]["channels"])) == (2, 2)
    assert {utterance["channel"] for utterance in body["results"]["utterances"]} == {0, 1}
    assert "warnings" not in body["metadata"]
    for (audio, options), channel in zip(service.uploads, (left, right), strict=True):
        assert np.array_equal(audio, channel)
        assert audio.flags.c_contiguous
        assert options.speakers is SpeakerMode.OFF


async def test_speakers(client, service):
    body = (await listen(client, diarize="true", utterances="true")).json()
    words = body["results"]["channels"][0]["alternatives"][0]["words"]
    assert [word["speaker"] for word in words] == [0, 0, 1, 1]
    assert [utterance["speaker"] for utterance in body["results"]["utterances"]] == [0, 1]
    assert service.uploads[0][1].speakers is SpeakerMode.VOICE


async def test_speakers_come_to_those_who_ask_alone(service):
    async with client_of(service, diarization_enabled=True) as client:
        body = (await listen(client)).json()
    assert "speaker" not in body["results"]["channels"][0]["alternatives"][0]["words"][0]


RAW = {"encoding": "linear16", "sample_rate": "16000", "channels": "2"}


@pytest.mark.parametrize(
    ("query", "raw", "shapes"),
    [
        ({}, False, [(16_000, 2)]),
        (RAW, True, [(16_000, 2)]),
        ({"multichannel": "true"}, False, [(16_000, 1)] * 2),
        ({"multichannel": "true", **RAW}, True, [(16_000, 1)] * 2),
    ],
)
async def test_channels_that_are_speakers_share_a_transcript(service, query, raw, shapes):
    stereo = np.stack([chirp(1.0, 16_000)] * 2, axis=1)
    async with client_of(service, diarization_backend="channel") as client:
        data = stereo.tobytes() if raw else wav(stereo, 16_000)
        assert (await listen(client, data, diarize="true", **query)).status_code == 200
    assert [audio.shape for audio, _ in service.uploads] == shapes


async def test_a_server_without_speakers_says_so(client, service):
    service.transcribe_error = SpeakersUnavailable("speakers cannot be told apart here: make speakers")
    answer = await listen(client, diarize="true")
    assert (answer.status_code, answer.json()["err_msg"]) == (400, str(service.transcribe_error))


async def test_a_half_sample_at_the_end_is_warned_about(client, service):
    data = chirp(1.0, 16_000).tobytes() + b"\1"
    body = (await listen(client, data, encoding="linear16", sample_rate="16000")).json()
    assert "1 byte(s)" in body["metadata"]["warnings"][0]["message"]
    assert len(service.uploads[0][0]) == 16_000


async def test_a_recording_cut_short_is_transcribed_with_a_warning(client):
    body = (await listen(client, wav(chirp(4.0, 16_000), 16_000)[:64_000])).json()
    assert body["metadata"]["warnings"][0]["parameter"] == "body"


@pytest.mark.parametrize(
    ("content", "content_type", "query", "status", "complaint"),
    [
        (b'{"url":"http://169.254.169.254/"}', "application/json", {}, 400, "no addresses"),
        (b"", "audio/wav", {}, 400, "empty"),
        (b"this is no audio at all", "audio/wav", {}, 400, "no audio"),
        (TWO_SECONDS, "audio/wav", {"callback": "http://a.example"}, 400, "callback"),
        (TWO_SECONDS, "audio/wav", {"redact": "pci"}, 400, "redact"),
        (TWO_SECONDS, "audio/wav", {"language": "klingon"}, 400, "klingon"),
        (TWO_SECONDS, "audio/wav", {"encoding": "g729"}, 400, "encoding"),
        (wav(chirp(0.05, 16_000), 16_000), "audio/wav", {}, 400, "too short"),
        (bytes(100), "audio/raw", {"encoding": "mulaw"}, 400, "too short"),
        (bytes(300_000), "audio/raw", {"encoding": "mulaw"}, 413, "longer than 30 s"),
        (encoded("aiff", 1.0), "audio/aiff", {}, 415, "aiff"),
        (bytes(2_000_000), "audio/wav", {}, 413, "max: 1MB"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", {}, 400, ""),
    ],
)
async def test_errors_have_their_own_shape(client, service, content, content_type, query, status, complaint):
    answer = await listen(client, content, content_type, **query)
    assert answer.status_code == status
    assert list(answer.json()) == ["err_code", "err_msg", "request_id"]
    assert complaint in answer.json()["err_msg"]
    assert answer.headers["dg-request-id"] == answer.json()["request_id"]
    assert answer.headers["dg-error"] == answer.json()["err_msg"][:200]
    assert service.uploads == []


async def test_a_message_that_no_header_can_hold_is_made_fit(client):
    answer = await listen(client, language="клингон\r\nx-evil: 1")
    assert answer.status_code == 400
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (QueueFull("Queue full: 20/20"), 503, "SERVICE_UNAVAILABLE", "2"),
        (InferenceError("the model failed"), 500, "INTERNAL_SERVER_ERROR", None),
        (RuntimeError("secret"), 500, "INTERNAL_SERVER_ERROR", None),
    ],
)
async def test_failures_of_the_service(service, error, status, code, retry_after):
    service.transcribe_error = error
    local = LocalInstruments()
    async with client_of(service, local) as client:
        answer = await listen(client)
    assert (answer.status_code, answer.json()["err_code"]) == (status, code)
    assert "secret" not in answer.text
    assert answer.headers.get("retry-after") == retry_after
    failed = {"status": "error", "cached": "false"}
    assert local.value("whisper_transcription_requests_total", failed) == 1
    assert local.value("whisper_active_requests") == 0


async def test_a_client_that_goes_away_cancels_its_transcription(service):
    service.transcribe_gate = asyncio.Event()
    app = app_of(service)
    incoming = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": TWO_SECONDS, "more_body": False})
    scope = post_scope("/v1/listen", "audio/wav")

    async def send(message):
        pass

    task = asyncio.create_task(app(scope, incoming.get, send))
    while not service.uploads:
        await asyncio.sleep(0.001)
    incoming.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(task, 60)
    assert service.num_cancelled_uploads == 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bodies_are_answered_with_text_or_a_clients_error(data):
    source = data.draw(st.sampled_from([TWO_SECONDS[:8_000], encoded("ogg", 1.0), encoded("mp3", 1.0)]))
    body = bytearray(source[: data.draw(st.integers(0, len(source)))])
    for _ in range(data.draw(st.integers(0, 5))):
        if body:
            body[data.draw(st.integers(0, min(len(body), 200) - 1))] = data.draw(st.integers(0, 255))
    raw = {"encoding": "alaw", "channels": "3", "multichannel": "true"}
    query = data.draw(st.sampled_from([{}, raw]))

    async def post():
        async with client_of(FakeService()) as client:
            return await listen(client, bytes(body), **query)

    answer = asyncio.run(post())
    assert answer.status_code in (200, 400, 413, 415), answer.text


# live


async def test_the_live_door_speaks_and_names_its_subprotocol(service):
    socket = AsgiSocket(app_of(service), "/v1/listen")
    socket._scope["query_string"] = b"encoding=linear16&sample_rate=16000&interim_results=true&punctuate=true"
    socket._scope["subprotocols"] = ["token", "key"]
    async with socket:
        assert socket.accepted["subprotocol"] == "token"
        socket.say(chirp(1.0, 16_000).tobytes())
        interim = (await socket.heard_until("Results"))[-1]
        assert interim["is_final"] is False
        socket.say({"type": "CloseStream"})
        heard = await socket.heard_until("close")
    final, metadata, closed = heard[-3:]
    assert (final["is_final"], final["channel"]["alternatives"][0]["transcript"]) == (True, "Olá, mundo.")
    assert metadata["sha256"] == hashlib.sha256(chirp(1.0, 16_000).tobytes()).hexdigest()
    assert closed == {"close": 1000}


async def test_each_channel_of_a_live_stream_has_a_session(service):
    left, right = chirp(1.0, 16_000), chirp(1.0, 16_000)[::-1].copy()
    socket = AsgiSocket(app_of(service), "/v1/listen")
    socket._scope["query_string"] = b"encoding=linear16&sample_rate=16000&channels=2&multichannel=true"
    async with socket:
        data = np.stack([left, right], axis=1).tobytes()
        socket.say(data[:32_001])
        socket.say(data[32_001:])
        socket.say({"type": "CloseStream"})
        heard = await socket.heard_until("close")
    indices = [message["channel_index"] for message in heard if message.get("type") == "Results"]
    assert sorted(indices) == [[0, 2], [1, 2]]
    assert np.array_equal(service.sessions[0].audio, left)
    assert np.array_equal(service.sessions[1].audio, right)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("encoding=morse&sample_rate=16000", "encoding: expected one of"),
        ("encoding=linear16", "sample_rate: required"),
        ("encoding=linear16&sample_rate=fast", "sample_rate"),
        ("encoding=linear16&sample_rate=7999", "sample_rate"),
        ("encoding=linear16&sample_rate=16000&channels=0", "channels"),
        ("encoding=linear16&sample_rate=16000&sample_rate=8000", "sample_rate"),
        ("utterance_end_ms=1000", "interim_results"),
        ("endpointing=soon", "endpointing"),
        ("language=klingon", "klingon"),
        ("model=nova-of-doom!", "neither one of Deepgram's nor hosted here (hosted: base)"),
        ("model=large-v3", "neither"),
        ("redact=pci", "redact"),
    ],
)
async def test_bad_options_are_refused_at_the_handshake(service, query, complaint):
    with running_app(app_of(service)) as port, pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{port}/v1/listen?{query}"):
            pass
    response = refused.value.response
    body = json.loads(response.body)
    assert response.status_code == 400
    assert sorted(body) == ["err_code", "err_msg", "request_id"]
    assert body["err_code"] == "Bad Request"
    assert complaint in body["err_msg"]
    assert response.headers["dg-request-id"] == body["request_id"]
    assert service.sessions == []


@pytest.mark.parametrize(
    "model", ["nova-3", "nova-2-phonecall", "Enhanced", "general", "whisper-large", "base", ""]
)
async def test_deepgrams_models_and_those_hosted_here_are_taken(service, model):
    with running_app(app_of(service)) as port:
        async with connect(f"ws://127.0.0.1:{port}/v1/listen?model={model}") as socket:
            await socket.send('{"type": "CloseStream"}')
            assert json.loads(await socket.recv())["type"] == "Metadata"


async def test_a_recordings_model_is_looked_at_too(client, service):
    answer = await listen(client, b"anything", model="novva-3")
    assert (answer.status_code, service.uploads) == (400, [])
    assert "novva-3" in answer.json()["err_msg"]


@pytest.mark.parametrize(
    ("query", "error", "close"),
    [(b"redact=pci", "redact", 1008), (b"language=klingon", "klingon", 1008), (b"model=base", "full", 1013)],
)
async def test_a_live_stream_that_cannot_begin_says_why(service, query, error, close):
    service.refuse_with = MaxSessionsReached("the server is full")
    socket = AsgiSocket(app_of(service), "/v1/listen")
    socket._scope["query_string"] = query
    async with socket:
        refused, closed = await socket.heard_until("close")
    assert (refused["type"], closed) == ("Error", {"close": close})
    assert error in refused["description"]


async def test_audio_that_is_none_ends_a_live_stream(service):
    async with AsgiSocket(app_of(service), "/v1/listen") as socket:
        socket.say(b"this is no audio at all, and never was any" * 10)
        heard = await socket.heard_until("close")
    assert [message.get("variant") for message in heard[:1]] == ["DATA-0000"]
    assert heard[-2]["type"] == "Metadata"
