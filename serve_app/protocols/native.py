"""The native protocol of `/ws/stt`: text frames to commands, events to text frames.

    client                                  server
    start_session {session_id, config}  ->
                                        <-  session_started
    binary frames (raw PCM)             ->
                                        <-  vad_event, partial_transcript, final_transcript, error
    flush | end_session | cancel        ->
                                        <-  session_ended {reason}

Our additions are optional fields: in `config` those of `choices.SessionChoices`; in
`partial_transcript` `stable_chars`, `language`, `start_ms`, `end_ms`; in `final_transcript` `language`,
`language_probability`, `start_ms`, `end_ms`, `endpoint_ms`; in `error` `retryable`; in every
`timing` `model`; and the message `audio_warning {kind, t_ms, value}` where the session asked for it.

Where it asked for speakers, finals and their words have `speaker` (`SPEAKER_01`, null where nobody knows
yet), and `speaker_revision {segment_id, speaker, words}` corrects a final that was sent: `words` are the
speakers of its words in their order, null where the final was sent on an earlier connection. Its ticket, if
it has one, replaces the one before it.

A session can go on after its connection was lost. `session_started` and every `final_transcript` carry a
`ticket` and `resume_from_samples`: `start_session {resume: ticket}`, on any replica, is answered with
`session_started {resumed: true, resume_from_samples}`, and the client sends its audio again from there, and
`flush` where it had; what follows is what would have followed. A start with `resume` (an empty one begins a
session) also asks for messages `ticket {ticket, resume_from_samples}`, coming where no final does, so that
a client need never keep more than its last minute. Samples count at 16 kHz, whatever the session's rate. A
ticket that is foreign, expired or for another `config` is refused with INVALID_TICKET; the socket then waits
for another start.

Times count from the session's first sample; `confidence` is a probability.
"""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import msgspec

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Word
from serve_app.errors import InvalidMessage, SottoError
from serve_app.events import (
    Acknowledged,
    Event,
    Final,
    Flushed,
    Partial,
    SessionEnded,
    SessionError,
    SessionStarted,
    SoundWarning,
    SpeakerRevision,
    SpeechEnded,
    SpeechStarted,
    Timing,
)
from serve_app.protocols.choices import SessionChoices, SessionId, message_of
from serve_app.protocols.spoken_words import spoken_form
from serve_app.session.ticket import MAX_TICKET_CHARS
from serve_app.speakers.labels import known_label

MAX_COMMAND_BYTES = 64 * 1024


class StartSession(msgspec.Struct, frozen=True, tag_field="type", tag="start_session"):
    """Open the session; without an id the server makes one. `resume`: the last ticket of the session to go on
    with, or empty: a new one that can be."""

    session_id: SessionId | None = None
    config: SessionChoices | None = None
    resume: Annotated[str, msgspec.Meta(max_length=MAX_TICKET_CHARS)] | None = None


class Flush(msgspec.Struct, frozen=True, tag_field="type", tag="flush"):
    """Force a final of the utterance in progress."""


class EndSession(msgspec.Struct, frozen=True, tag_field="type", tag="end_session"):
    """No more audio: finish everything, then `session_ended`."""


class Cancel(msgspec.Struct, frozen=True, tag_field="type", tag="cancel"):
    """Drop what is not decoded and end."""


Command: TypeAlias = StartSession | Flush | EndSession | Cancel

_decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(StartSession | Flush | EndSession | Cancel)
_encoder = msgspec.json.Encoder()


def decode_command(frame: str | bytes, max_bytes: int = MAX_COMMAND_BYTES) -> Command:
    """One text frame to a command; unknown keys are ignored.

    Raises `InvalidMessage` on anything else: size, malformed JSON, unknown type, a value out of range.
    """
    if len(frame) > max_bytes:
        raise InvalidMessage(f"control message of {len(frame)} characters, the limit is {max_bytes}")
    try:
        return _decoder.decode(frame)
    except msgspec.ValidationError as error:
        raise InvalidMessage(message_of(error)) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidMessage(f"malformed JSON: {message_of(error)}") from None
    except RecursionError:
        raise InvalidMessage("JSON is nested too deeply") from None


def encode_error(error: SottoError, session_id: str | None) -> bytes:
    """An `error` message for what the codec or the shell refused; before a session `session_id` is null."""
    return _encoder.encode(error_message(error.code, str(error), error.retryable, session_id))


def event_message(
    event: Event, session_id: str, *, speakers: bool = False, revised: Final | None = None
) -> dict[str, object] | None:
    """The message of one event, keys in the protocol's order; None where it has none.

    `speakers`: the session tells them apart; `revised`: the final that a revision is about, as it is now.
    """
    match event:
        case Partial():
            return _partial(event, session_id)
        case Final():
            return _final(event, session_id, speakers=speakers)
        case SpeakerRevision():
            return _revision(event, revised, session_id)
        case SpeechStarted(at_sample):
            return _vad_event("speech_start", at_sample, session_id)
        case SpeechEnded(at_sample):
            return _vad_event("speech_end", at_sample, session_id)
        case SoundWarning(kind, at_sample, value):
            return {
                "type": "audio_warning",
                "session_id": session_id,
                "kind": kind,
                "t_ms": _ms(at_sample),
                "value": round(value, 4),
            }
        case SessionStarted(_, resumed, sample, ticket):
            started: dict[str, object] = {"type": "session_started", "session_id": session_id}
            return started | ({"resumed": resumed} | _ticket(ticket, sample) if ticket else {})
        case Acknowledged(sample, ticket):
            return {"type": "ticket", "session_id": session_id, **_ticket(ticket, sample)}
        case Flushed():
            return None
        case SessionError(code, message, retryable):
            return error_message(code, message, retryable, session_id)
        case SessionEnded(reason, total_samples, num_finals):
            return {
                "type": "session_ended",
                "session_id": session_id,
                "reason": reason.value,
                "total_audio_ms": _ms(total_samples),
                "total_segments": num_finals,
            }


def error_message(code: str, message: str, retryable: bool, session_id: str | None) -> dict[str, object]:
    return {
        "type": "error",
        "code": code,
        "message": message,
        "session_id": session_id,
        "retryable": retryable,
    }


def _vad_event(state: str, at_sample: int, session_id: str) -> dict[str, object]:
    return {"type": "vad_event", "session_id": session_id, "state": state, "t_ms": _ms(at_sample)}


def _partial(event: Partial, session_id: str) -> dict[str, object]:
    return {
        "type": "partial_transcript",
        "session_id": session_id,
        "segment_id": segment_id(event.utterance_id),
        "text": event.text,
        "confidence": _probability(event.confidence),
        "is_final": False,
        "stable_chars": event.stable_chars,
        "language": event.language,
        "start_ms": _ms(event.start_sample),
        "end_ms": _ms(event.end_sample),
        "timing": _timing(event.timing),
    }


def _final(event: Final, session_id: str, *, speakers: bool) -> dict[str, object]:
    return {
        "type": "final_transcript",
        "session_id": session_id,
        "segment_id": segment_id(event.utterance_id),
        "text": event.text,
        "confidence": _probability(event.confidence),
        "is_final": True,
        **({"speaker": known_label(event.speaker)} if speakers else {}),
        "words": words_message(event.words, speakers=speakers),
        "audio_duration_ms": _ms(event.end_sample - event.start_sample),
        "language": event.language,
        "language_probability": _probability(event.language_probability),
        "start_ms": _ms(event.start_sample),
        "end_ms": _ms(event.end_sample),
        "endpoint_ms": _ms(event.decided_sample),
        "timing": _timing(event.timing),
        **({"doubted": event.doubted} if event.doubted else {}),
        **({"withheld": event.withheld} if event.withheld else {}),
        **(_ticket(event.ticket, event.resume_sample) if event.ticket else {}),
    }


def _revision(event: SpeakerRevision, revised: Final | None, session_id: str) -> dict[str, object]:
    words = None if revised is None else [known_label(word.speaker) for word in _spoken(revised.words)]
    return {
        "type": "speaker_revision",
        "session_id": session_id,
        "segment_id": segment_id(event.utterance_id),
        "speaker": known_label(event.speaker),
        "words": words,
        "start_ms": _ms(event.start_sample),
        "end_ms": _ms(event.end_sample),
        **(_ticket(event.ticket, event.resume_sample) if event.ticket else {}),
    }


def _ticket(ticket: str, sample: int) -> dict[str, object]:
    return {"resume_from_samples": sample, "ticket": ticket}


def words_message(words: tuple[Word, ...], *, speakers: bool = False) -> list[dict[str, object]]:
    """Words as spoken (no leading space, no punctuation); times in seconds, to the millisecond."""
    return [
        {
            "word": spoken_form(word.word),
            "start": round(word.start_s, 3),
            "end": round(word.end_s, 3),
            "probability": _probability(word.probability),
            **({"speaker": known_label(word.speaker)} if speakers else {}),
        }
        for word in _spoken(words)
    ]


def _spoken(words: tuple[Word, ...]) -> list[Word]:
    """Those that are more than punctuation."""
    return [word for word in words if spoken_form(word.word)]


def segment_id(utterance_id: str) -> str:
    return utterance_id if utterance_id.startswith("seg-") else f"seg-{utterance_id}"


def _timing(timing: Timing) -> dict[str, object]:
    return {
        "preprocess_ms": round(timing.preprocess_ms, 1),
        "queue_wait_ms": round(timing.queue_wait_ms, 1),
        "inference_ms": round(timing.inference_ms, 1),
        "postprocess_ms": round(timing.postprocess_ms, 1),
        "server_total_ms": round(timing.total_ms, 1),
        "model": timing.model,
    }


def _ms(num_samples: int) -> float:
    return round(num_samples * 1000 / SAMPLE_RATE_HZ, 2)


def _probability(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4) if math.isfinite(value) else 0.0
