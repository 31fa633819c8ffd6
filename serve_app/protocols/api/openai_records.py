"""What OpenAI's REST endpoints answer: records for the API documents; `openai.answer` writes it."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from serve_app.protocols.api.native_records import Server
from serve_app.protocols.openai.client_secrets import ExpiresAfter
from serve_app.protocols.openai.realtime_session import SessionUpdate


class Language(Server, frozen=True, kw_only=True):
    code: str


class Usage(Server, frozen=True, kw_only=True):
    """Seconds of audio."""

    type: Literal["duration"]
    seconds: float


class Logprob(Server, frozen=True, kw_only=True):
    """A word as written, its UTF-8 bytes and the logarithm of its probability."""

    token: str
    bytes: list[int]
    logprob: float


class Transcription(Server, frozen=True, kw_only=True):
    """`response_format=json`; a translation has the text alone."""

    text: str
    logprobs: list[Logprob] | UnsetType = UNSET
    languages: list[Language] | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET


class TimedWord(Server, frozen=True, kw_only=True):
    word: str
    start: float
    end: float


class Segment(Server, frozen=True, kw_only=True):
    """Times in seconds; `tokens` is empty. `speaker` (`A`, `B`, ...) only where it was asked for."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    speaker: str | UnsetType = UNSET


class VerboseTranscription(Server, frozen=True, kw_only=True):
    """`response_format=verbose_json`."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    usage: Usage
    segments: list[Segment] | UnsetType = UNSET
    words: list[TimedWord] | UnsetType = UNSET


class DiarizedTranscription(Server, frozen=True, kw_only=True):
    """`response_format=diarized_json`."""

    task: Literal["transcribe", "translate"]
    duration: float
    text: str
    segments: list[TextSegment]
    usage: Usage


class TextDelta(Server, tag_field="type", tag="transcript.text.delta", frozen=True, kw_only=True):
    """`stream=true`: the next piece of text; `segment_id` with `diarized_json`."""

    delta: str
    segment_id: str | UnsetType = UNSET
    logprobs: list[Logprob] | UnsetType = UNSET


class TextSegment(Server, tag_field="type", tag="transcript.text.segment", frozen=True, kw_only=True):
    """A segment of `diarized_json`; `stream=true` with it or `verbose_json`: an event. `speaker` is `A`, `B`,
    ..., or empty where nobody was asked."""

    id: str
    start: float
    end: float
    text: str
    speaker: str


class TextDone(Server, tag_field="type", tag="transcript.text.done", frozen=True, kw_only=True):
    """`stream=true`: the whole text, the last event."""

    text: str
    languages: list[Language]
    logprobs: list[Logprob] | UnsetType = UNSET


class ErrorFields(Server, frozen=True, kw_only=True):
    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str | None


class Error(Server, frozen=True, kw_only=True):
    """OpenAI's error; `type` is there only where it is the last event of a streamed answer."""

    error: ErrorFields
    type: Literal["error"] | UnsetType = UNSET


class Model(Server, frozen=True, kw_only=True):
    """A name to ask for; `root` is the model that decodes."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str


class ModelList(Server, frozen=True, kw_only=True):
    object: Literal["list"]
    data: list[Model]


class ClientSecretRequest(Server, frozen=True, kw_only=True):
    """How long the secret is good for, and the session that it opens; both may be left out."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: SessionUpdate | UnsetType = UNSET
