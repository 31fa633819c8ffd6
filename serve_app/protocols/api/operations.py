"""The HTTP doors as a table: what each takes, answers and refuses with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from serve_app.protocols import ndjson
from serve_app.protocols.api import deepgram_records as deepgram
from serve_app.protocols.api import http_records as records
from serve_app.protocols.api import openai_records as openai
from serve_app.protocols.api import realtime_records as realtime
from serve_app.protocols.api.native_records import Heartbeat, NativeEvent
from serve_app.protocols.choices import _SessionQuery as SessionQuery
from serve_app.protocols.deepgram import options as listen
from serve_app.protocols.openai.answer import EVENT_STREAM_TYPE
from serve_app.protocols.openai.realtime_session import SessionUpdate
from serve_app.protocols.openai.request import TranscriptionRequest
from serve_app.protocols.transcribe import UploadChoices

AUDIO_TYPES: Final = ("audio/*", "application/octet-stream")
RAW_TYPE: Final = "audio/pcm"


@dataclass(frozen=True, slots=True)
class Query:
    """Parameters of an address: the fields of `record` less `without`, and `repeated` ones of text."""

    record: Any
    without: frozenset[str] = frozenset()
    repeated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: a file and the fields of `record`, of which `lists` may come as `name[]` too."""

    record: Any
    lists: frozenset[str] = frozenset()
    more: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ("audio",)


@dataclass(frozen=True, slots=True)
class Answer:
    """A body: `record` as JSON (a tuple: any of these), text of the types in `texts`, or, by media type,
    what `streams` has, a record a line or event."""

    status: int = 200
    meaning: str = "The answer."
    record: Any = None
    texts: tuple[str, ...] = ()
    streams: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `prefix` sets its records' names apart, `error` is their shape of errors."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    answers: tuple[Answer, ...]
    description: str = ""
    query: Query | None = None
    form: Form | None = None
    audio: tuple[str, ...] = ()
    json: Any = None
    errors: tuple[int, ...] = ()
    error: Any = records.Detail
    prefix: str = ""


def _page(path: str, name: str, summary: str, record: Any, *, not_ready: bool = False) -> Operation:
    answers = [Answer(record=record)]
    if not_ready:
        answers.append(Answer(503, "Not yet.", record))
    return Operation("get", path, name, "service", summary, tuple(answers))


_SERVICE: Final = (
    _page("/", "root", "What this is, its settings and its doors", records.Root),
    _page("/health", "health", "Alive, with model and cache; always 200", records.Health),
    _page("/health/live", "live", "The process answers", records.Live),
    _page("/health/ready", "healthReady", "The models are loaded", records.Ready, not_ready=True),
    _page("/health/startup", "startup", "It has been ready once", records.Startup, not_ready=True),
    _page("/health/status", "status", "Models, queue, sessions and load", records.Status),
    _page("/ready", "ready", "The models are loaded", records.Ready, not_ready=True),
    Operation(
        "get", "/metrics", "metrics", "service", "Prometheus text of the whole cluster",
        (Answer(texts=("text/plain",)),),
    ),
    _page("/openapi.json", "openapi", "This document", dict[str, Any]),
    _page("/asyncapi.json", "asyncapi", "The WebSocket doors, as AsyncAPI 3.0", dict[str, Any]),
)  # fmt: skip

_RECORDINGS: Final = (
    Operation(
        method="post",
        path="/transcribe",
        name="transcribe",
        tag="recordings",
        summary="A recording to text",
        description="Options come as query parameters or form fields; one given twice must be the same.",
        query=Query(UploadChoices),
        form=Form(UploadChoices),
        audio=(*AUDIO_TYPES, RAW_TYPE),
        answers=(
            Answer(record=records.Transcript, texts=("text/plain", "application/x-subrip", "text/vtt")),
        ),
        errors=(400, 413, 415, 500, 503),
    ),
    Operation(
        method="post",
        path="/transcribe/stream",
        name="transcribeStream",
        tag="recordings",
        summary="Audio in and text out over one request, both at once",
        description="A line of JSON for every event; the last is `session_ended`. Raw samples come as "
        "`audio/pcm;rate=16000;encoding=pcm16;channels=1`, containers as they are.",
        query=Query(SessionQuery),
        audio=(*AUDIO_TYPES, RAW_TYPE),
        answers=(Answer(streams={ndjson.MEDIA_TYPE: NativeEvent | Heartbeat}),),
        errors=(400, 409, 415, 500, 503),
    ),
)

LISTS: Final = frozenset({"languages", "keywords", "timestamp_granularities", "include"})
_CHUNKING: Final = {
    "chunking_strategy": "`auto`, or a JSON object `{type: server_vad, threshold, prefix_padding_ms, "
    "silence_duration_ms}`."
}


def _openai(path: str, name: str, summary: str) -> Operation:
    events = openai.TextDelta | openai.TextSegment | openai.TextDone
    return Operation(
        method="post",
        path=path,
        name=name,
        tag="openai",
        summary=summary,
        description="With `stream=true`: server-sent events; the last is `transcript.text.done`.",
        form=Form(TranscriptionRequest, LISTS, _CHUNKING),
        answers=(
            Answer(
                record=(openai.Transcription, openai.VerboseTranscription, openai.DiarizedTranscription),
                texts=("text/plain", "application/x-subrip", "text/vtt"),
                streams={EVENT_STREAM_TYPE: events},
            ),
        ),
        errors=(400, 404, 413, 500, 503),
        error=openai.Error,
        prefix="OpenAI",
    )


_OPENAI: Final = (
    _openai("/v1/audio/transcriptions", "createTranscription", "OpenAI's: a recording to text"),
    _openai("/v1/audio/translations", "createTranslation", "OpenAI's: a recording to English text"),
    Operation(
        "get", "/v1/models", "listModels", "openai", "OpenAI's: names that the loaded models answer to",
        (Answer(record=openai.ModelList),), prefix="OpenAI",
    ),
    Operation(
        "get", "/v1/models/{name}", "retrieveModel", "openai", "OpenAI's: one of them",
        (Answer(record=openai.Model),), errors=(404, 503), error=openai.Error, prefix="OpenAI",
    ),
    Operation(
        "post", "/v1/realtime/client_secrets", "createClientSecret", "openai",
        "OpenAI's: a secret with which a browser opens `/v1/realtime`",
        (Answer(record=realtime.ClientSecret),),
        json=openai.ClientSecretRequest, errors=(400,), error=openai.Error, prefix="Realtime",
    ),
    Operation(
        "post", "/v1/realtime/transcription_sessions", "createTranscriptionSession", "openai",
        "OpenAI's beta: the same",
        (Answer(record=realtime.BetaSession),),
        json=SessionUpdate, errors=(400,), error=openai.Error, prefix="Realtime",
    ),
)  # fmt: skip

_UNSERVED: Final = ", ".join(f"`{name}`" for name in listen._NOT_SERVED)
REPEATED: Final = tuple(sorted(listen._REPEATED))

_DEEPGRAM: Final = Operation(
    method="post",
    path="/v1/listen",
    name="listen",
    tag="deepgram",
    summary="Deepgram's: a recording to text",
    description="The body is the audio, whatever its content type; an address to fetch is refused. "
    f"Accepted with a warning in `metadata.warnings`: {_UNSERVED}. Refused: `callback`, `redact`.",
    query=Query(listen._Query, listen._LIVE_ONLY, REPEATED),
    audio=(*AUDIO_TYPES, RAW_TYPE),
    answers=(Answer(record=deepgram.ListenAnswer),),
    errors=(400, 413, 415, 500, 503),
    error=deepgram.ListenError,
    prefix="Deepgram",
)

OPERATIONS: Final = (*_RECORDINGS, *_OPENAI, _DEEPGRAM, *_SERVICE)

STATUS_MEANINGS: Final = {
    400: "A parameter, a body or audio that cannot be understood.",
    404: "No such model is loaded here.",
    409: "The session id is in use.",
    413: "Larger or longer than the server takes.",
    415: "No audio, or a container that is not allowed.",
    500: "A model failed; the same may succeed.",
    503: "Full, or no model is loaded yet: try again after `retry-after` seconds.",
}
