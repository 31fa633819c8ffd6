"""What the server says in Deepgram's shapes, live and for recordings.

Records for the API documents; `deepgram.results`, `.live` and `.recorded` write them. Times are seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from serve_app.protocols.api.native_records import Server

ChannelIndex: TypeAlias = Annotated[list[int], Meta(min_length=2, max_length=2)]
"""The channel, and how many there are."""


class OptionWarning(Server, frozen=True, kw_only=True):
    """An option that the answer does not have, or damage."""

    parameter: str
    type: str
    message: str


class ModelInfo(Server, frozen=True, kw_only=True):
    name: str
    version: str
    arch: str


class Word(Server, frozen=True, kw_only=True):
    word: str
    start: float
    end: float
    confidence: float
    punctuated_word: str | UnsetType = UNSET
    language: str | UnsetType = UNSET
    speaker: int | UnsetType = UNSET


class Sentence(Server, frozen=True, kw_only=True):
    text: str
    start: float
    end: float


class Paragraph(Server, frozen=True, kw_only=True):
    sentences: list[Sentence]
    speaker: int | UnsetType = UNSET
    num_words: int
    start: float
    end: float


class Paragraphs(Server, frozen=True, kw_only=True):
    transcript: str
    paragraphs: list[Paragraph]


class Alternative(Server, frozen=True, kw_only=True):
    transcript: str
    confidence: float
    words: list[Word]
    languages: list[str] | UnsetType = UNSET
    paragraphs: Paragraphs | UnsetType = UNSET


class Hit(Server, frozen=True, kw_only=True):
    confidence: float
    start: float
    end: float
    snippet: str


class Search(Server, frozen=True, kw_only=True):
    query: str
    hits: list[Hit]


class Channel(Server, frozen=True, kw_only=True):
    alternatives: list[Alternative]
    search: list[Search] | UnsetType = UNSET
    detected_language: str | UnsetType = UNSET
    language_confidence: float | UnsetType = UNSET


class ResultMetadata(Server, frozen=True, kw_only=True):
    request_id: str
    model_info: ModelInfo
    model_uuid: str
    warnings: list[OptionWarning] | UnsetType = UNSET


class Results(Server, tag_field="type", tag="Results", frozen=True, kw_only=True):
    """Text; `is_final` false: interim. `speech_final`: a pause ended it."""

    channel_index: ChannelIndex
    start: float
    duration: float
    is_final: bool
    speech_final: bool
    channel: Channel
    metadata: ResultMetadata
    from_finalize: bool


class SpeechStarted(Server, tag_field="type", tag="SpeechStarted", frozen=True, kw_only=True):
    """Speech began; only with `vad_events`."""

    channel: ChannelIndex
    timestamp: float


class UtteranceEnd(Server, tag_field="type", tag="UtteranceEnd", frozen=True, kw_only=True):
    """No word for `utterance_end_ms`."""

    channel: ChannelIndex
    last_word_end: float


class Metadata(Server, tag_field="type", tag="Metadata", frozen=True, kw_only=True):
    """The last message: what the stream amounted to; `sha256` of its audio."""

    transaction_key: Literal["deprecated"]
    request_id: str
    sha256: str
    created: str
    duration: float
    channels: int
    tags: list[str] | UnsetType = UNSET
    extra: dict[str, str] | UnsetType = UNSET
    warnings: list[OptionWarning] | UnsetType = UNSET


class Error(Server, tag_field="type", tag="Error", frozen=True, kw_only=True):
    """A message that was not understood (`SchemaError`), undecodable audio (`DATA-0000`), or our code."""

    variant: str
    description: str
    message: str | UnsetType = UNSET


class ConfigureSuccess(Server, tag_field="type", tag="ConfigureSuccess", frozen=True, kw_only=True):
    """The key terms hold from the next utterance on."""

    request_id: str
    keyterms: list[str] | UnsetType = UNSET


class ConfigureFailure(Server, tag_field="type", tag="ConfigureFailure", frozen=True, kw_only=True):
    """Nothing was changed."""

    request_id: str
    code: str
    description: str


class RecordedMetadata(Server, frozen=True, kw_only=True):
    transaction_key: Literal["deprecated"]
    request_id: str
    sha256: str
    created: str
    duration: float
    channels: int
    models: list[str]
    model_info: dict[str, ModelInfo]
    tags: list[str] | UnsetType = UNSET
    extra: dict[str, str] | UnsetType = UNSET
    warnings: list[OptionWarning] | UnsetType = UNSET


class Utterance(Server, frozen=True, kw_only=True):
    start: float
    end: float
    confidence: float
    channel: int
    transcript: str
    words: list[Word]
    id: str
    languages: list[str] | UnsetType = UNSET
    speaker: int | UnsetType = UNSET


class RecordedResults(Server, frozen=True, kw_only=True):
    channels: list[Channel]
    utterances: list[Utterance] | UnsetType = UNSET


class ListenAnswer(Server, frozen=True, kw_only=True):
    """The transcript of a recording."""

    metadata: RecordedMetadata
    results: RecordedResults


class ListenError(Server, frozen=True, kw_only=True):
    """Deepgram's error; the same text is in the header `dg-error`."""

    err_code: str
    err_msg: str
    request_id: str
