"""OpenAI's Realtime events, both ways: records for the API documents of what `openai.realtime` speaks."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from serve_app.protocols.api.native_records import Server
from serve_app.protocols.api.openai_records import Language, Logprob, Usage
from serve_app.protocols.openai.realtime_session import AudioFormat, SessionUpdate, TurnDetection

# -- from the client -------------------------------------------------------------------------------


class RealtimeQuery(Struct, frozen=True, kw_only=True):
    """The address of `/v1/realtime`."""

    intent: Literal["transcription"] = "transcription"
    model: str | None = None


class _Client(Struct, frozen=True, kw_only=True):
    event_id: str | None = None


class Update(_Client, tag_field="type", tag="session.update", frozen=True, kw_only=True):
    """Change what the session is: answered with `session.updated`."""

    session: SessionUpdate


class BetaUpdate(_Client, tag_field="type", tag="transcription_session.update", frozen=True, kw_only=True):
    """The beta's update; from here on the server speaks the beta."""

    session: SessionUpdate


class Append(_Client, tag_field="type", tag="input_audio_buffer.append", frozen=True, kw_only=True):
    """Audio in base64, 15 MiB at most; nothing answers it."""

    audio: str


class Commit(_Client, tag_field="type", tag="input_audio_buffer.commit", frozen=True, kw_only=True):
    """End the turn in progress now."""


class Clear(_Client, tag_field="type", tag="input_audio_buffer.clear", frozen=True, kw_only=True):
    """Forget the turn in progress."""


# -- from the server -------------------------------------------------------------------------------


class ShownTranscription(Server, frozen=True, kw_only=True):
    model: str
    language: str | None
    prompt: str
    languages: list[str] | UnsetType = UNSET
    keywords: list[str] | UnsetType = UNSET
    delay: str | UnsetType = UNSET


class ShownInput(Server, frozen=True, kw_only=True):
    format: AudioFormat
    transcription: ShownTranscription
    noise_reduction: None
    turn_detection: TurnDetection | None


class ShownAudio(Server, frozen=True, kw_only=True):
    input: ShownInput


class Session(Server, frozen=True, kw_only=True):
    """The session in the shape of GA; `expires_at` is a Unix second."""

    type: Literal["transcription"]
    object: Literal["realtime.transcription_session"]
    id: str
    expires_at: int
    audio: ShownAudio
    include: list[str] | None


class ShownSecret(Server, frozen=True, kw_only=True):
    value: str
    expires_at: int


class BetaSession(Server, frozen=True, kw_only=True):
    """The session in the shape of the beta; with its secret where one was asked for."""

    id: str
    object: Literal["realtime.transcription_session"]
    expires_at: int
    modalities: list[str]
    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"]
    input_audio_transcription: ShownTranscription
    input_audio_noise_reduction: None
    turn_detection: TurnDetection | None
    include: list[str] | None
    client_secret: ShownSecret | UnsetType = UNSET


class ClientSecret(Server, frozen=True, kw_only=True):
    """A secret for a browser, good until Unix second `expires_at`, and the session that it opens."""

    value: str
    expires_at: int
    session: Session


class _Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    """A turn begins, milliseconds from the first sample, padding counted."""

    audio_start_ms: int
    item_id: str


class SpeechStopped(
    _Event, tag_field="type", tag="input_audio_buffer.speech_stopped", frozen=True, kw_only=True
):
    """A turn ends, the silence that ended it counted."""

    audio_end_ms: int
    item_id: str


class Committed(_Event, tag_field="type", tag="input_audio_buffer.committed", frozen=True, kw_only=True):
    """A turn is over; its text comes."""

    previous_item_id: str | None
    item_id: str


class Cleared(_Event, tag_field="type", tag="input_audio_buffer.cleared", frozen=True, kw_only=True):
    """The turn in progress is forgotten."""


class InputAudio(Server, tag_field="type", tag="input_audio", frozen=True, kw_only=True):
    transcript: None


class Item(Server, tag_field="type", tag="message", frozen=True, kw_only=True):
    id: str
    object: Literal["realtime.item"]
    status: Literal["completed"]
    role: Literal["user"]
    content: list[InputAudio]


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
    content_index: int


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
    """A stretch of one speaker, seconds from the first sample; only with `gpt-4o-transcribe-diarize`."""

    id: str
    start: float
    end: float
    text: str
    speaker: str


class FailedFields(Server, frozen=True, kw_only=True):
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


class ErrorFields(FailedFields, frozen=True, kw_only=True):
    """`event_id`: the client's event that is at fault."""

    event_id: str | None


class Error(_Event, tag_field="type", tag="error", frozen=True, kw_only=True):
    """Something was refused; the session goes on."""

    error: ErrorFields
