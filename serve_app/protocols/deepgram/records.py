"""What the server writes in Deepgram's shapes, live and for recordings. Times are seconds."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from sotto_client.wire import Written, means

ChannelIndex: TypeAlias = Annotated[
    list[int], Meta(min_length=2, max_length=2, description="The channel, and how many there are.")
]


Speaker: TypeAlias = Annotated[int, means("Counted from 0; only where it is known.")]


class OptionWarning(Written, frozen=True, kw_only=True):
    """An option that the answer does not have, or damage."""

    parameter: str
    type: str
    message: str


class ModelInfo(Written, frozen=True, kw_only=True):
    name: str
    version: str = "latest"
    arch: str = "whisper"


class Word(Written, frozen=True, kw_only=True):
    word: Annotated[str, means("Bare and small.")]
    start: float
    end: float
    confidence: Annotated[float, means("A probability.")]
    punctuated_word: Annotated[str | UnsetType, means("As written.")] = UNSET
    language: str | UnsetType = UNSET
    speaker: Speaker | UnsetType = UNSET


class Sentence(Written, frozen=True, kw_only=True):
    text: str
    start: float
    end: float


class Paragraph(Written, frozen=True, kw_only=True):
    sentences: list[Sentence]
    speaker: Speaker | UnsetType = UNSET
    num_words: int
    start: float
    end: float


class Paragraphs(Written, frozen=True, kw_only=True):
    transcript: str
    paragraphs: list[Paragraph]


class Alternative(Written, frozen=True, kw_only=True):
    transcript: str
    confidence: Annotated[float, means("A probability.")]
    words: list[Word]
    languages: list[str] | UnsetType = UNSET
    paragraphs: Paragraphs | UnsetType = UNSET


class Hit(Written, frozen=True, kw_only=True):
    confidence: Annotated[float, means("A probability.")]
    start: float
    end: float
    snippet: str


class Search(Written, frozen=True, kw_only=True):
    query: str
    hits: list[Hit]


class Channel(Written, frozen=True, kw_only=True):
    alternatives: list[Alternative]
    search: list[Search] | UnsetType = UNSET
    detected_language: str | UnsetType = UNSET
    language_confidence: Annotated[float | UnsetType, means("Its probability.")] = UNSET


class ResultMetadata(Written, frozen=True, kw_only=True):
    request_id: str
    model_info: ModelInfo
    model_uuid: str
    warnings: list[OptionWarning] | UnsetType = UNSET


class Results(Written, tag_field="type", tag="Results", frozen=True, kw_only=True):
    """Text of a stretch of the stream."""

    channel_index: ChannelIndex
    start: float
    duration: float
    is_final: Annotated[bool, means("False: interim.")]
    speech_final: Annotated[bool, means("A pause ended it.")]
    channel: Channel
    metadata: ResultMetadata
    from_finalize: Annotated[bool, means("It answers `Finalize`.")]


class SpeechStarted(Written, tag_field="type", tag="SpeechStarted", frozen=True, kw_only=True):
    """Speech began; only with `vad_events`."""

    channel: ChannelIndex
    timestamp: float


class UtteranceEnd(Written, tag_field="type", tag="UtteranceEnd", frozen=True, kw_only=True):
    """No word for `utterance_end_ms`."""

    channel: ChannelIndex
    last_word_end: Annotated[float, means("Seconds.")]


class Metadata(Written, tag_field="type", tag="Metadata", frozen=True, kw_only=True):
    """The last message: what the stream amounted to."""

    transaction_key: Literal["deprecated"] = "deprecated"
    request_id: str
    sha256: Annotated[str, means("Of the audio.")]
    created: str
    duration: float
    channels: int
    tags: list[str] | UnsetType = UNSET
    extra: dict[str, str] | UnsetType = UNSET
    warnings: list[OptionWarning] | UnsetType = UNSET


class Error(Written, tag_field="type", tag="Error", frozen=True, kw_only=True):
    """Something was refused or failed."""

    variant: Annotated[
        str, means("`SchemaError`, `DATA-0000` for audio that cannot be decoded, or a code of ours.")
    ]
    description: str
    message: Annotated[str | UnsetType, means("What was not understood.")] = UNSET


class ConfigureSuccess(Written, tag_field="type", tag="ConfigureSuccess", frozen=True, kw_only=True):
    """The key terms hold from the next utterance on."""

    request_id: str
    keyterms: list[str] | UnsetType = UNSET


class ConfigureFailure(Written, tag_field="type", tag="ConfigureFailure", frozen=True, kw_only=True):
    """Nothing was changed."""

    request_id: str
    code: str
    description: str


class RecordedMetadata(Written, frozen=True, kw_only=True):
    transaction_key: Literal["deprecated"] = "deprecated"
    request_id: str
    sha256: Annotated[str, means("Of the audio.")]
    created: str
    duration: float
    channels: int
    models: list[str]
    model_info: dict[str, ModelInfo]
    tags: list[str] | UnsetType = UNSET
    extra: dict[str, str] | UnsetType = UNSET
    warnings: list[OptionWarning] | UnsetType = UNSET


class Utterance(Written, frozen=True, kw_only=True):
    start: float
    end: float
    confidence: Annotated[float, means("A probability.")]
    channel: Annotated[int, means("From 0.")]
    transcript: str
    words: list[Word]
    id: str
    languages: list[str] | UnsetType = UNSET
    speaker: Speaker | UnsetType = UNSET


class RecordedResults(Written, frozen=True, kw_only=True):
    channels: list[Channel]
    utterances: list[Utterance] | UnsetType = UNSET


class ListenAnswer(Written, frozen=True, kw_only=True):
    """The transcript of a recording."""

    metadata: RecordedMetadata
    results: RecordedResults


class ListenAccepted(Written, frozen=True, kw_only=True):
    """With `callback`: the transcript will be sent there, as the body of a request."""

    request_id: str


class ListenError(Written, frozen=True, kw_only=True):
    """Deepgram's error; the same text is in the header `dg-error`."""

    err_code: str
    err_msg: str
    request_id: str
