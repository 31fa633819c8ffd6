"""The server's messages as a client sees them: one frozen record per type of the native protocol.

The same records come out of the WebSocket (`LiveClient`) and out of the lines of `POST /transcribe/stream`.
Times are in the protocol's own units: milliseconds from the session's first sample, words in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """Audio is taken from sample `resume_from_samples` (16 kHz) on. An empty `ticket`: not to be resumed."""

    session_id: str
    resumed: bool = False
    resume_from_samples: int = 0
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Audio before sample `resume_from_samples` (16 kHz) is no longer needed to go on."""

    ticket: str
    resume_from_samples: int


@dataclass(frozen=True, slots=True)
class VadEvent:
    """`state` is "speech_start" or "speech_end"."""

    state: str
    t_ms: float


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """`speaker`: as in `FinalTranscript`."""

    word: str
    start_s: float
    end_s: float
    probability: float
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class PartialTranscript:
    """Interim text; the first `stable_chars` code points stay as they are. `end_ms`: last sample covered."""

    segment_id: str
    text: str
    confidence: float
    stable_chars: int
    language: str
    start_ms: float
    end_ms: float
    timing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FinalTranscript:
    """Text that will not change. `endpoint_ms`: the stream time at which the utterance could be closed, the
    end of its endpoint silence or its cut; None from servers that do not say. `speaker`: "SPEAKER_01", of
    most of it; None where nobody was asked or it is not known yet. `doubted`: why the server does not believe
    the text. An empty text takes back what was shown of the segment; `withheld` says why there is none."""

    segment_id: str
    text: str
    confidence: float
    words: tuple[SpokenWord, ...]
    language: str
    audio_duration_ms: float
    start_ms: float
    end_ms: float
    endpoint_ms: float | None
    timing: Mapping[str, Any] = field(default_factory=dict)
    resume_from_samples: int = 0
    ticket: str = ""
    speaker: str | None = None
    doubted: str = ""
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class SpeakerRevision:
    """Who spoke the final of this segment, as it is known now. `words`: the speakers of its words, in their
    order; None where the server does not remember how many it sent."""

    segment_id: str
    speaker: str | None
    words: tuple[str | None, ...] | None
    start_ms: float
    end_ms: float
    resume_from_samples: int = 0
    ticket: str = ""

    def applied_to(self, final: FinalTranscript) -> FinalTranscript:
        """The final as it would be sent now."""
        spoken = final.words
        if self.words is not None and len(self.words) == len(spoken):
            pairs = zip(spoken, self.words, strict=True)
            spoken = tuple(replace(word, speaker=speaker) for word, speaker in pairs)
        return replace(final, speaker=self.speaker, words=spoken)


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """`reason` is "completed", "cancelled", "error" or "timeout"."""

    reason: str
    total_audio_ms: float
    total_segments: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    t_ms: float


@dataclass(frozen=True, slots=True)
class OtherMessage:
    """A type that this client does not know: newer servers may send them."""

    type: str
    fields: Mapping[str, Any]


Message: TypeAlias = (
    SessionStarted
    | Ticket
    | VadEvent
    | PartialTranscript
    | FinalTranscript
    | SpeakerRevision
    | ErrorMessage
    | SessionEnded
    | Heartbeat
    | OtherMessage
)


def parse_message(fields: Mapping[str, Any]) -> Message:
    """One decoded JSON object to its record; absent optional fields get neutral values."""
    kind = str(fields.get("type", ""))
    match kind:
        case "partial_transcript":
            return _partial(fields)
        case "final_transcript":
            return _final(fields)
        case "speaker_revision":
            return _revision(fields)
        case "vad_event":
            return VadEvent(str(fields["state"]), float(fields["t_ms"]))
        case "session_started":
            return SessionStarted(
                str(fields["session_id"]), bool(fields.get("resumed", False)), *_resume_point(fields)
            )
        case "ticket":
            sample, ticket = _resume_point(fields)
            return Ticket(ticket, sample)
        case "session_ended":
            return SessionEnded(
                str(fields["reason"]), float(fields["total_audio_ms"]), int(fields["total_segments"])
            )
        case "error":
            return ErrorMessage(
                str(fields["code"]), str(fields["message"]), bool(fields.get("retryable", False))
            )
        case "heartbeat":
            return Heartbeat(float(fields["t_ms"]))
        case _:
            return OtherMessage(kind, fields)


def _resume_point(fields: Mapping[str, Any]) -> tuple[int, str]:
    return int(fields.get("resume_from_samples", 0)), str(fields.get("ticket", ""))


def _partial(fields: Mapping[str, Any]) -> PartialTranscript:
    return PartialTranscript(
        segment_id=str(fields["segment_id"]),
        text=str(fields["text"]),
        confidence=float(fields["confidence"]),
        stable_chars=int(fields.get("stable_chars", 0)),
        language=str(fields.get("language", "")),
        start_ms=float(fields.get("start_ms", 0.0)),
        end_ms=float(fields.get("end_ms", 0.0)),
        timing=dict(fields.get("timing", {})),
    )


def _final(fields: Mapping[str, Any]) -> FinalTranscript:
    endpoint_ms = fields.get("endpoint_ms")
    sample, ticket = _resume_point(fields)
    return FinalTranscript(
        segment_id=str(fields["segment_id"]),
        text=str(fields["text"]),
        confidence=float(fields["confidence"]),
        words=tuple(parse_word(word) for word in fields.get("words") or ()),
        language=str(fields.get("language", "")),
        audio_duration_ms=float(fields["audio_duration_ms"]),
        start_ms=float(fields.get("start_ms", 0.0)),
        end_ms=float(fields.get("end_ms", 0.0)),
        endpoint_ms=None if endpoint_ms is None else float(endpoint_ms),
        timing=dict(fields.get("timing", {})),
        resume_from_samples=sample,
        ticket=ticket,
        speaker=_label(fields.get("speaker")),
        doubted=str(fields.get("doubted", "")),
        withheld=str(fields.get("withheld", "")),
    )


def _revision(fields: Mapping[str, Any]) -> SpeakerRevision:
    words = fields.get("words")
    sample, ticket = _resume_point(fields)
    return SpeakerRevision(
        segment_id=str(fields["segment_id"]),
        speaker=_label(fields["speaker"]),
        words=None if words is None else tuple(_label(word) for word in words),
        start_ms=float(fields.get("start_ms", 0.0)),
        end_ms=float(fields.get("end_ms", 0.0)),
        resume_from_samples=sample,
        ticket=ticket,
    )


def parse_word(fields: Mapping[str, Any]) -> SpokenWord:
    return SpokenWord(
        str(fields["word"]),
        float(fields["start"]),
        float(fields["end"]),
        float(fields["probability"]),
        _label(fields.get("speaker")),
    )


def _label(value: object) -> str | None:
    return None if value is None else str(value)
