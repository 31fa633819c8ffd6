"""What OpenAI's REST endpoints answer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from sotto_client.wire import Written, means


class Language(Written, frozen=True, kw_only=True):
    code: str


class Usage(Written, frozen=True, kw_only=True):
    type: Literal["duration"] = "duration"
    seconds: Annotated[float, means("Seconds of audio.")]


class Logprob(Written, frozen=True, kw_only=True):
    """Of a word."""

    token: Annotated[str, means("The word as written, with its leading space.")]
    bytes: Annotated[list[int], means("Its UTF-8 bytes.")]
    logprob: Annotated[float, means("The natural logarithm of its probability.")]


class Transcription(Written, frozen=True, kw_only=True):
    """`response_format=json`; a translation has the text alone."""

    text: str
    logprobs: list[Logprob] | UnsetType = UNSET
    languages: list[Language] | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET


class TimedWord(Written, frozen=True, kw_only=True):
    word: str
    start: float
    end: float


class Segment(Written, frozen=True, kw_only=True):
    """Times in seconds."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: Annotated[list[int], means("Always empty.")]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    speaker: Annotated[
        str | UnsetType, means("`A`, `B` and so on, empty: not known. Only where they were asked for.")
    ] = UNSET


class VerboseTranscription(Written, frozen=True, kw_only=True):
    """`response_format=verbose_json`."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    segments: list[Segment] | UnsetType = UNSET
    words: list[TimedWord] | UnsetType = UNSET
    usage: Usage


class DiarizedTranscription(Written, frozen=True, kw_only=True):
    """`response_format=diarized_json`."""

    task: Literal["transcribe", "translate"]
    duration: float
    text: str
    segments: list[TextSegment]
    usage: Usage


class TextDelta(Written, tag_field="type", tag="transcript.text.delta", frozen=True, kw_only=True):
    """`stream=true`: the next piece of text."""

    delta: str
    logprobs: list[Logprob] | UnsetType = UNSET
    segment_id: Annotated[str | UnsetType, means("With `diarized_json`.")] = UNSET


class TextSegment(Written, tag_field="type", tag="transcript.text.segment", frozen=True, kw_only=True):
    """A segment of `diarized_json`; `stream=true` with it or `verbose_json`: an event."""

    id: str
    start: float
    end: float
    text: str
    speaker: Annotated[str, means("`A`, `B` and so on; empty: not known, or not asked for.")]


class TextDone(Written, tag_field="type", tag="transcript.text.done", frozen=True, kw_only=True):
    """`stream=true`: the whole text, the last event. `warning` and `complete`: where something is wrong with
    a long recording, which is known when it has been read."""

    text: str
    logprobs: list[Logprob] | UnsetType = UNSET
    languages: list[Language]
    warning: str | UnsetType = UNSET
    complete: bool | UnsetType = UNSET


class ErrorFields(Written, frozen=True, kw_only=True):
    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class Error(Written, frozen=True, kw_only=True):
    """OpenAI's error."""

    error: ErrorFields
    type: Annotated[Literal["error"] | UnsetType, means("Where it ends a streamed answer.")] = UNSET


class Model(Written, frozen=True, kw_only=True):
    """A name to ask for."""

    id: str
    object: Literal["model"] = "model"
    created: Annotated[int, means("The Unix second at which this server began to host it.")]
    owned_by: str = "sotto"
    root: Annotated[str, means("The model that decodes.")]


class ModelList(Written, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]
