"""What a Realtime server writes, in the shapes of GA and of the beta."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, UnsetType

from serve_app.protocols.openai.realtime_session import AudioFormat, TurnDetection
from serve_app.protocols.openai.records import Language, Logprob, Usage
from sotto_client.wire import Written, means

ExpiresAt: TypeAlias = Annotated[int, means("A Unix second.")]
_OBJECT: Literal["realtime.transcription_session"] = "realtime.transcription_session"


class ShownTranscription(Written, frozen=True, kw_only=True):
    model: str
    language: str | None
    prompt: str
    languages: tuple[str, ...] | UnsetType = UNSET
    keywords: tuple[str, ...] | UnsetType = UNSET
    delay: str | UnsetType = UNSET


class ShownInput(Written, frozen=True, kw_only=True):
    format: AudioFormat
    transcription: ShownTranscription
    noise_reduction: None = None
    turn_detection: TurnDetection | None


class ShownAudio(Written, frozen=True, kw_only=True):
    input: ShownInput


class Session(Written, frozen=True, kw_only=True):
    """The session in the shape of GA."""

    type: Literal["transcription"] = "transcription"
    object: Literal["realtime.transcription_session"] = _OBJECT
    id: str
    expires_at: ExpiresAt
    audio: ShownAudio
    include: list[str] | None


class ShownSecret(Written, frozen=True, kw_only=True):
    value: str
    expires_at: ExpiresAt


class BetaSession(Written, frozen=True, kw_only=True):
    """The session in the shape of the beta; with its secret where one was asked for."""

    id: str
    object: Literal["realtime.transcription_session"] = _OBJECT
    expires_at: ExpiresAt
    modalities: tuple[str, ...] = ("audio", "text")
    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"]
    input_audio_transcription: ShownTranscription
    input_audio_noise_reduction: None = None
    turn_detection: TurnDetection | None
    include: list[str] | None
    client_secret: ShownSecret | UnsetType = UNSET


class ClientSecret(Written, frozen=True, kw_only=True):
    """A secret for a browser, and the session that it opens."""

    value: str
    expires_at: ExpiresAt
    session: Session


class _Event(Written, frozen=True, kw_only=True):
    event_id: str


class Created(_Event, tag_field="type", tag="session.created", frozen=True, kw_only=True):
    """The greeting."""

    session: Session


class Updated(_Event, tag_field="type", tag="session.updated", frozen=True, kw_only=True):
    """The session after an update."""

    session: Session


class BetaCreated(_Event, tag_field="type", tag="transcription_session.created", frozen=True, kw_only=True):
    """The beta's greeting."""

    session: BetaSession


class BetaUpdated(_Event, tag_field="type", tag="transcription_session.updated", frozen=True, kw_only=True):
    """The session after an update, as the beta shows it."""

    session: BetaSession


class SpeechStarted(
    _Event, tag_field="type", tag="input_audio_buffer.speech_started", frozen=True, kw_only=True
):
    """A turn begins."""

    audio_start_ms: Annotated[int, means("Milliseconds from the first sample, padding counted.")]
    item_id: str


class SpeechStopped(
    _Event, tag_field="type", tag="input_audio_buffer.speech_stopped", frozen=True, kw_only=True
):
    """A turn ends."""

    audio_end_ms: Annotated[int, means("Milliseconds, the silence that ended it counted.")]
    item_id: str


class Committed(_Event, tag_field="type", tag="input_audio_buffer.committed", frozen=True, kw_only=True):
    """A turn is over; its text comes."""

    previous_item_id: str | None
    item_id: str


class Cleared(_Event, tag_field="type", tag="input_audio_buffer.cleared", frozen=True, kw_only=True):
    """The turn in progress is forgotten."""


class InputAudio(Written, tag_field="type", tag="input_audio", frozen=True, kw_only=True):
    transcript: None = None


class Item(Written, frozen=True, kw_only=True):
    id: str
    object: Literal["realtime.item"] = "realtime.item"
    type: Literal["message"] = "message"
    status: Literal["completed"] = "completed"
    role: Literal["user"] = "user"
    content: tuple[InputAudio, ...] = (InputAudio(),)


class _ItemEvent(_Event, frozen=True, kw_only=True):
    previous_item_id: str | None
    item: Item


class ItemCreated(_ItemEvent, tag_field="type", tag="conversation.item.created", frozen=True, kw_only=True):
    """The turn as an item of the conversation."""


class ItemAdded(_ItemEvent, tag_field="type", tag="conversation.item.added", frozen=True, kw_only=True):
    """The same; GA only."""


class ItemDone(_ItemEvent, tag_field="type", tag="conversation.item.done", frozen=True, kw_only=True):
    """The same; GA only."""


class _Text(_Event, frozen=True, kw_only=True):
    item_id: str
    content_index: int = 0


class Delta(
    _Text,
    tag_field="type",
    tag="conversation.item.input_audio_transcription.delta",
    frozen=True,
    kw_only=True,
):
    """Text that is added and will not change in later deltas."""

    delta: str


class Completed(
    _Text,
    tag_field="type",
    tag="conversation.item.input_audio_transcription.completed",
    frozen=True,
    kw_only=True,
):
    """The text of a turn; this is what counts."""

    transcript: str
    languages: list[Language]
    usage: Usage
    logprobs: list[Logprob] | UnsetType = UNSET


class Segment(
    _Text,
    tag_field="type",
    tag="conversation.item.input_audio_transcription.segment",
    frozen=True,
    kw_only=True,
):
    """A stretch of one speaker, only with `gpt-4o-transcribe-diarize`."""

    id: str
    start: Annotated[float, means("Seconds from the first sample.")]
    end: Annotated[float, means("Seconds from the first sample.")]
    text: str
    speaker: Annotated[str, means("`A`, `B` and so on, or `unknown`.")]


class FailedFields(Written, frozen=True, kw_only=True):
    type: str
    code: str | None
    message: str
    param: str | None


class Failed(
    _Text,
    tag_field="type",
    tag="conversation.item.input_audio_transcription.failed",
    frozen=True,
    kw_only=True,
):
    """A turn has no text: a model failed, or the session ended."""

    error: FailedFields


class ErrorFields(Written, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None
    event_id: Annotated[str | None, means("The client's event that is at fault.")]


class Error(_Event, tag_field="type", tag="error", frozen=True, kw_only=True):
    """Something was refused; the session goes on."""

    error: ErrorFields
