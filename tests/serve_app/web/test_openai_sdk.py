"""OpenAI's own SDK against the doors, with nothing but its base URL changed."""

import asyncio
import base64
import json
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.app_server import running_app
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from serve_app.core.errors import InferenceError, QueueFull
from serve_app.core.jobs import Task
from serve_app.web.app import create_app
from serve_app.web.door_table import OPENAI

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports what its own libraries have retired
    openai = pytest.importorskip("openai", reason="the openai SDK is not installed")
    from openai.types.realtime import realtime_server_event
    from pydantic import TypeAdapter

pytestmark = [
    pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning"),
]

TWO_SECONDS = ("talk.wav", wav(chirp(2.0, 16_000), 16_000))
TEXT = "Hello there. General Kenobi."
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "openai_realtime.json").read_text())


class SlowToFail(FakeService):
    async def transcribe(self, audio, options, progress=None, on_segment=None):
        on_segment(self.transcript.segments[0])
        await asyncio.sleep(0.01)
        raise InferenceError("model failed")


@contextmanager
def base_url_of(service, **settings):
    app = create_app(service, FakeSettings(**settings), protocols=[OPENAI])
    with running_app(app) as port:
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def client_of(service, **settings):
    with (
        base_url_of(service, **settings) as base_url,
        openai.OpenAI(base_url=base_url, api_key="any", max_retries=0) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def service():
    return FakeService()


@pytest.fixture(scope="module")
def client(service):
    with client_of(service) as client:
        yield client


def transcribe(client, **options):
    return client.audio.transcriptions.create(model="gpt-4o-transcribe", file=TWO_SECONDS, **options)


# -- recordings -----------------------------------------------------------------------------------


def test_json(client):
    answer = transcribe(client, include=["logprobs"], language="en", prompt="Star Wars", temperature=0.1)
    assert answer.text == TEXT
    assert [entry.token for entry in answer.logprobs] == [" Hello", " there.", " General", " Kenobi."]
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 2.0)
    assert answer.languages[0].code == "en"


def test_every_choice_arrives(client, service):
    transcribe(
        client,
        language="pt",
        prompt="Consulta",
        keywords=["dipirona", "losartana"],
        temperature=0.3,
        chunking_strategy={"type": "server_vad", "threshold": 0.7, "silence_duration_ms": 300},
        extra_body={"hotwords": "Sotto"},
    )
    _, options = service.uploads[-1]
    assert (options.language, options.prompt, options.temperature) == ("pt", "Consulta", 0.3)
    assert options.hotwords == "Sotto, dipirona, losartana"
    assert (options.endpointing.threshold, options.endpointing.min_silence_ms) == (0.7, 300)
    transcribe(client, chunking_strategy="auto", languages=["pt", "en"])
    assert service.uploads[-1][1].language is None


def test_verbose_json(client):
    answer = transcribe(client, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert (answer.text, answer.language, answer.duration) == (TEXT, "english", 2.0)
    assert [(part.id, part.start, part.end) for part in answer.segments] == [(0, 0.0, 1.0), (1, 1.2, 2.0)]
    assert "".join(part.text for part in answer.segments).strip() == TEXT
    assert [word.word for word in answer.words] == ["Hello", "there", "General", "Kenobi"]
    type(answer).model_validate(json.loads(answer.model_dump_json()), strict=True)


@pytest.mark.parametrize(
    ("form", "start"),
    [("text", TEXT), ("srt", "1\n00:00:00,000 --> "), ("vtt", "WEBVTT\n\n00:00:00.000 --> ")],
)
def test_plain_formats(client, form, start):
    assert transcribe(client, response_format=form).startswith(start)


def test_streaming(client):
    events = list(transcribe(client, stream=True, include=["logprobs"]))
    assert [event.type for event in events] == [
        "transcript.text.delta",
        "transcript.text.delta",
        "transcript.text.done",
    ]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == TEXT
    assert len(events[-1].logprobs) == 4


def test_streaming_with_times(client):
    events = list(transcribe(client, stream=True, response_format="verbose_json"))
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert [(event.id, event.start, event.end) for event in segments] == [
        ("seg_000", 0.0, 1.0),
        ("seg_001", 1.2, 2.0),
    ]


def test_a_stream_that_fails_raises():
    with client_of(SlowToFail()) as client:
        stream = transcribe(client, stream=True)
        assert next(stream).delta == "Hello there."
        with pytest.raises(openai.APIError, match="model failed"):
            next(stream)


async def test_the_async_client():
    service = FakeService()
    with base_url_of(service) as base_url:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
            stream = await client.audio.transcriptions.create(
                model="whisper-1", file=TWO_SECONDS, stream=True
            )
            deltas = [event.delta async for event in stream if event.type == "transcript.text.delta"]
    assert "".join(deltas) == TEXT


@pytest.mark.parametrize("form", ["json", "verbose_json", "text", "srt", "vtt"])
def test_translations(client, service, form):
    answer = client.audio.translations.create(model="whisper-1", file=TWO_SECONDS, response_format=form)
    assert service.uploads[-1][1].task is Task.TRANSLATE
    if form == "verbose_json":
        assert (answer.language, answer.duration, len(answer.segments)) == ("english", 2.0, 2)
    assert "General" in (answer if isinstance(answer, str) else answer.text)


def test_models(client):
    models = list(client.models.list())
    assert {"base", "whisper-1", "openai/whisper-base"} <= {model.id for model in models}
    assert client.models.retrieve("whisper-1").object == "model"
    for model in models:
        type(model).model_validate(json.loads(model.model_dump_json()), strict=True)
        assert client.models.retrieve(model.id).id == model.id


@pytest.mark.parametrize(
    ("options", "error", "param", "code"),
    [
        ({"model": "large-v9"}, "NotFoundError", "model", "model_not_found"),
        (
            {"known_speaker_names": ["Ada"]},
            "BadRequestError",
            "known_speaker_names",
            "unsupported_parameter",
        ),
        ({"language": "klingon"}, "BadRequestError", "language", "invalid_language"),
        ({"temperature": 3}, "BadRequestError", "temperature", "invalid_value"),
        ({"file": ("x.wav", b"not audio")}, "BadRequestError", None, "invalid_audio"),
    ],
)
def test_refusals_are_its_exceptions(client, options, error, param, code):
    with pytest.raises(getattr(openai, error)) as caught:
        client.audio.transcriptions.create(**{"model": "whisper-1", "file": TWO_SECONDS, **options})
    assert (caught.value.param, caught.value.code) == (param, code)


DIARIZED = {
    "model": "gpt-4o-transcribe-diarize",
    "file": TWO_SECONDS,
    "response_format": "diarized_json",
    "chunking_strategy": "auto",
}


def test_speakers(client):
    answer = client.audio.transcriptions.create(**DIARIZED)
    assert type(answer).__name__ == "TranscriptionDiarized"
    assert [(part.speaker, part.text) for part in answer.segments] == [
        ("A", "Hello there."),
        ("B", "General Kenobi."),
    ]
    assert (answer.text, answer.duration) == (TEXT, 2.0)


def test_speakers_of_a_stream(client):
    events = list(client.audio.transcriptions.create(**DIARIZED, stream=True))
    segments = [event for event in events if event.type == "transcript.text.segment"]
    deltas = [event for event in events if event.type == "transcript.text.delta"]
    assert [(part.id, part.speaker) for part in segments] == [("seg_000", "A"), ("seg_001", "B")]
    assert [delta.segment_id for delta in deltas] == ["seg_000", "seg_001"]
    assert events[-1].text == "".join(delta.delta for delta in deltas) == TEXT


def test_a_busy_server_is_tried_again():
    class BusyOnce(FakeService):
        async def transcribe(self, audio, options, progress=None, on_segment=None):
            if not self.uploads:
                self.uploads.append((audio, options))
                raise QueueFull("busy")
            return await super().transcribe(audio, options, progress, on_segment)

    service = BusyOnce()
    with client_of(service) as client:
        again = client.with_options(max_retries=1)
        again._calculate_retry_timeout = lambda *_: 0.0
        assert transcribe(again).text == TEXT
    assert len(service.uploads) == 2


# -- Realtime -------------------------------------------------------------------------------------


def test_its_types_accept_every_event_of_ours():
    known = TypeAdapter(realtime_server_event.RealtimeServerEvent)
    for message in GOLDEN["ga"]:
        event = known.validate_python(message, strict=True)
        assert event.type == message["type"]


def test_client_secrets(client):
    session = {"type": "transcription", "audio": {"input": {"transcription": {"language": "pt"}}}}
    secret = client.realtime.client_secrets.create(
        session=session, expires_after={"anchor": "created_at", "seconds": 60}
    )
    assert secret.value.startswith("ek_")
    assert (secret.session.type, secret.session.audio.input.transcription.language) == ("transcription", "pt")
    with client.with_options(api_key=secret.value).realtime.connect() as connection:
        assert connection.recv().session.audio.input.transcription.language == "pt"
    with pytest.raises(openai.BadRequestError) as caught:
        client.realtime.client_secrets.create(session={"type": "realtime"})
    assert caught.value.param == "session.type"


def speak(connection, seconds):
    for _ in range(round(seconds * 10)):
        connection.input_audio_buffer.append(audio=base64.b64encode(bytes(4_800)).decode())


def heard_until(connection, kind):
    events = [connection.recv()]
    while events[-1].type != kind:
        events.append(connection.recv())
    return events


COMPLETED = "conversation.item.input_audio_transcription.completed"


def test_a_realtime_session(client, service):
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "transcription": {"model": "gpt-4o-transcribe", "language": "pt"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
                    }
                },
                "include": ["item.input_audio_transcription.logprobs"],
            }
        )
        assert connection.recv().session.audio.input.turn_detection.silence_duration_ms == 300
        speak(connection, 1.0)
        connection.input_audio_buffer.commit()
        events = heard_until(connection, COMPLETED)
    options = service.sessions[-1].options
    assert (options.language, options.endpointing.min_silence_ms) == ("pt", 300)
    by_type = {event.type: event for event in events}
    ids = {event.item_id for event in events if hasattr(event, "item_id")}
    assert len(ids) == 1
    assert 1_295 <= by_type["input_audio_buffer.speech_stopped"].audio_end_ms <= 1_300
    done = by_type[COMPLETED]
    assert done.transcript.startswith("Olá, mundo.")
    assert [entry.token for entry in done.logprobs] == [" Olá,", " mundo."]
    assert done.usage.type == "duration"
    deltas = [event.delta for event in events if event.type.endswith("transcription.delta")]
    assert deltas == ["1"]  # the final says something else, so nothing is added to what was stable


def test_manual_commits_and_clear(client, service):
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.recv()
        connection.session.update(
            session={"type": "transcription", "audio": {"input": {"turn_detection": None}}}
        )
        assert connection.recv().session.audio.input.turn_detection is None
        connection.input_audio_buffer.commit()
        assert connection.recv().error.code == "input_audio_buffer_commit_empty"
        speak(connection, 0.3)
        connection.input_audio_buffer.clear()
        assert heard_until(connection, "input_audio_buffer.cleared")
        speak(connection, 0.4)
        connection.input_audio_buffer.commit()
        events = heard_until(connection, COMPLETED)
        assert [event.type for event in events if "speech" in event.type] == []
    assert service.sessions[-1].options.endpointing.enabled is False
    assert sum(event.type == COMPLETED for event in events) == 1


def test_errors_leave_the_socket_open(client):
    with client.realtime.connect() as connection:
        connection.recv()
        connection.send({"type": "response.create", "event_id": "mine"})
        error = connection.recv().error
        assert (error.type, error.event_id) == ("invalid_request_error", "mine")
        connection.send_raw("{")
        assert connection.recv().error.code == "invalid_json"
        speak(connection, 1.2)
        assert heard_until(connection, "conversation.item.input_audio_transcription.delta")


def test_a_model_that_is_not_here_is_no_socket(client):
    with (
        pytest.raises(Exception, match="404"),
        client.realtime.connect(model="large-v9"),
    ):
        pass
