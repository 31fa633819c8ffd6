"""What the server says in the native protocol (`/ws/stt`, `/ws/stream`, `POST /transcribe/stream`).

Records for the API documents; `protocols.native` writes the messages, and a test holds the two together.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from serve_app.audio.levels import LevelProblem


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shape that the server writes: it has these fields and no others."""


class SessionStarted(Server, tag_field="type", tag="session_started", frozen=True, kw_only=True):
    """The session takes audio, from its 16 kHz sample `resume_from_samples` on."""

    session_id: str
    resumed: bool | UnsetType = UNSET
    resume_from_samples: int | UnsetType = UNSET
    ticket: str | UnsetType = UNSET


class Ticket(Server, tag_field="type", tag="ticket", frozen=True, kw_only=True):
    """Audio before 16 kHz sample `resume_from_samples` is not needed any more."""

    session_id: str
    resume_from_samples: int
    ticket: str


class VadEvent(Server, tag_field="type", tag="vad_event", frozen=True, kw_only=True):
    """Speech begins or ends, milliseconds from the first sample."""

    session_id: str
    state: Literal["speech_start", "speech_end"]
    t_ms: float


class AudioWarning(Server, tag_field="type", tag="audio_warning", frozen=True, kw_only=True):
    """The sound is bad; only with `level_warnings`."""

    session_id: str
    kind: LevelProblem
    t_ms: float
    value: float


class Timing(Server, frozen=True, kw_only=True):
    """Milliseconds of one result inside the server, and the model it came from."""

    preprocess_ms: float
    queue_wait_ms: float
    inference_ms: float
    postprocess_ms: float
    server_total_ms: float
    model: str


class Word(Server, frozen=True, kw_only=True):
    """A word as spoken, without punctuation; seconds from the first sample. `speaker`: as in its final."""

    word: str
    start: float
    end: float
    probability: float
    speaker: str | None | UnsetType = UNSET


class PartialTranscript(Server, tag_field="type", tag="partial_transcript", frozen=True, kw_only=True):
    """Interim text of the segment in progress: all of it; its first `stable_chars` do not change any more.

    With `only_new_words` it is what comes behind the first `keep_chars` of what was sent.
    """

    session_id: str
    segment_id: str
    text: str
    confidence: float
    is_final: Literal[False]
    stable_chars: int
    language: str
    start_ms: float
    end_ms: float
    timing: Timing
    keep_chars: int | UnsetType = UNSET


class FinalTranscript(Server, tag_field="type", tag="final_transcript", frozen=True, kw_only=True):
    """Text of a finished segment, once and in order; `endpoint_ms` is when it could be closed.

    With `only_new_words`, `new_text` goes behind the first `keep_chars` of what was sent. `speaker`, where
    speakers are told apart: `SPEAKER_01`, of most of it; null where nobody knows yet. `doubted`: why a guard
    does not believe the text. An empty text takes back what was shown of the segment; `withheld` says why.
    """

    session_id: str
    segment_id: str
    text: str
    confidence: float
    is_final: Literal[True]
    speaker: str | None | UnsetType = UNSET
    words: list[Word]
    audio_duration_ms: float
    language: str
    language_probability: float
    start_ms: float
    end_ms: float
    endpoint_ms: float
    timing: Timing
    resume_from_samples: int | UnsetType = UNSET
    ticket: str | UnsetType = UNSET
    new_text: str | UnsetType = UNSET
    keep_chars: int | UnsetType = UNSET
    doubted: str | UnsetType = UNSET
    withheld: str | UnsetType = UNSET


class SpeakerRevision(Server, tag_field="type", tag="speaker_revision", frozen=True, kw_only=True):
    """Who spoke a final that was sent: known now, or known better. A speaker for each of its `words`; null
    where the final was sent on an earlier connection."""

    session_id: str
    segment_id: str
    speaker: str | None
    words: list[str | None] | None
    start_ms: float
    end_ms: float
    resume_from_samples: int | UnsetType = UNSET
    ticket: str | UnsetType = UNSET


class Error(Server, tag_field="type", tag="error", frozen=True, kw_only=True):
    """Something was refused or failed; `retryable`: the same may succeed later."""

    code: str
    message: str
    session_id: str | None
    retryable: bool


class SessionEnded(Server, tag_field="type", tag="session_ended", frozen=True, kw_only=True):
    """The last message."""

    session_id: str
    reason: Literal["completed", "cancelled", "error", "timeout"]
    total_audio_ms: float
    total_segments: int


class Heartbeat(Server, tag_field="type", tag="heartbeat", frozen=True, kw_only=True):
    """Nothing else to say; `t_ms` of audio have been taken (`POST /transcribe/stream`)."""

    t_ms: float


class Ping(Server, tag_field="type", tag="ping", frozen=True, kw_only=True):
    """The connection is alive; `pong` may answer it (`/ws/stream`)."""


class Pong(Server, tag_field="type", tag="pong", frozen=True, kw_only=True):
    """The answer to a `ping` of the client."""


NativeEvent: TypeAlias = (
    SessionStarted
    | Ticket
    | VadEvent
    | AudioWarning
    | PartialTranscript
    | FinalTranscript
    | SpeakerRevision
    | Error
    | SessionEnded
)
