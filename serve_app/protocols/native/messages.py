"""The native protocol of `/ws/stt`: text frames to commands, events to text frames.

    client                                  server
    start_session {session_id, config}  ->
                                        <-  session_started
    binary frames (raw PCM)             ->
                                        <-  vad_event, partial_transcript, final_transcript, error
    flush | end_session | cancel        ->
                                        <-  session_ended {reason}

What a client says is read into the records below; what the server says are those of `sotto_client.wire`,
which tell the meaning of every field.

A session can go on after its connection was lost. `session_started` and every `final_transcript` carry a
`ticket` and `resume_from_samples`: `start_session {resume: ticket}`, on any replica, is answered with
`session_started {resumed: true, resume_from_samples}`, and the client sends its audio again from there, and
`flush` where it had; what follows is what would have followed. A start with `resume` (an empty one begins a
session) also asks for messages `ticket {ticket, resume_from_samples}`, coming where no final does, so that
a client need never keep more than its last minute. Samples count at 16 kHz at any rate of the session. A
ticket that is foreign, expired or for another `config` is refused with INVALID_TICKET; the socket then waits
for another start.
"""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET

from serve_app.core.errors import SottoError
from serve_app.core.events import (
    Acknowledged,
    Event,
    Final,
    Flushed,
    ModelStatus,
    Partial,
    SessionEnded,
    SessionError,
    SessionStarted,
    SoundWarning,
    SpeakerRevision,
    SpeechEnded,
    SpeechHeard,
    SpeechStarted,
    Timing,
)
from serve_app.core.jobs import Word
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.protocols.choices import SessionChoices, SessionId, decode_message
from serve_app.protocols.deltas import Delta
from serve_app.protocols.spoken_words import spoken_form
from serve_app.session.ticket import MAX_TICKET_CHARS
from serve_app.speakers.turns import known_label
from sotto_client import wire

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
    return decode_message(_decoder, frame, max_bytes)


def encode_error(error: SottoError, session_id: str | None) -> bytes:
    """An `error` message for what the codec or the shell refused; before a session `session_id` is null."""
    return _encoder.encode(
        wire.Error(code=error.code, message=str(error), session_id=session_id, retryable=error.retryable)
    )


def event_message(
    event: Event,
    session_id: str,
    *,
    speakers: bool = False,
    revised: Final | None = None,
    delta: Delta | None = None,
) -> wire.Event | None:
    """The message of one event; None where it has none.

    `speakers`: the session tells them apart; `revised`: the final that a revision is about, as it is now;
    `delta`: what is new of the text, where only that is wanted.
    """
    match event:
        case Partial():
            return _partial(event, session_id, delta)
        case Final():
            return _final(event, session_id, delta, speakers=speakers)
        case SpeakerRevision():
            return _revision(event, revised, session_id)
        case SpeechStarted(at_sample):
            return wire.VadEvent(session_id=session_id, state="speech_start", t_ms=_ms(at_sample))
        case SpeechEnded(at_sample):
            return wire.VadEvent(session_id=session_id, state="speech_end", t_ms=_ms(at_sample))
        case SoundWarning(kind, at_sample, value):
            return wire.AudioWarning(
                session_id=session_id, kind=kind, t_ms=_ms(at_sample), value=round(value, 4)
            )
        case SpeechHeard(at_sample, probability):
            return wire.SpeechProbability(
                session_id=session_id, t_ms=_ms(at_sample), probability=_probability(probability)
            )
        case ModelStatus(stalled, at_sample, waited_s):
            return wire.ModelStatus(
                session_id=session_id,
                state="stalled" if stalled else "resumed",
                t_ms=_ms(at_sample),
                waited_ms=round(waited_s * 1000, 1),
            )
        case SessionStarted(_, resumed, sample, ticket):
            if not ticket:
                return wire.SessionStarted(session_id=session_id)
            return wire.SessionStarted(
                session_id=session_id, resumed=resumed, resume_from_samples=sample, ticket=ticket
            )
        case Acknowledged(sample, ticket):
            return wire.Ticket(session_id=session_id, resume_from_samples=sample, ticket=ticket)
        case Flushed():
            return None
        case SessionError(code, message, retryable):
            return wire.Error(code=code, message=message, session_id=session_id, retryable=retryable)
        case SessionEnded(reason, total_samples, num_finals):
            return wire.SessionEnded(
                session_id=session_id,
                reason=reason.value,
                total_audio_ms=_ms(total_samples),
                total_segments=num_finals,
            )


def _partial(event: Partial, session_id: str, delta: Delta | None) -> wire.PartialTranscript:
    return wire.PartialTranscript(
        session_id=session_id,
        segment_id=segment_id(event.utterance_id),
        text=event.text if delta is None else delta.text,
        confidence=_probability(event.confidence),
        stable_chars=event.stable_chars if delta is None else len(delta.text),
        language=event.language,
        start_ms=_ms(event.start_sample),
        end_ms=_ms(event.end_sample),
        timing=_timing(event.timing),
        keep_chars=UNSET if delta is None else delta.keep_chars,
    )


def _final(event: Final, session_id: str, delta: Delta | None, *, speakers: bool) -> wire.FinalTranscript:
    return wire.FinalTranscript(
        session_id=session_id,
        segment_id=segment_id(event.utterance_id),
        text=event.text,
        confidence=_probability(event.confidence),
        speaker=known_label(event.speaker) if speakers else UNSET,
        words=wire_words(event.words, speakers=speakers),
        audio_duration_ms=_ms(event.end_sample - event.start_sample),
        language=event.language,
        language_probability=_probability(event.language_probability),
        start_ms=_ms(event.start_sample),
        end_ms=_ms(event.end_sample),
        endpoint_ms=_ms(event.decided_sample),
        timing=_timing(event.timing),
        doubted=event.doubted or UNSET,
        withheld=event.withheld or UNSET,
        resume_from_samples=event.resume_sample if event.ticket else UNSET,
        ticket=event.ticket or UNSET,
        new_text=UNSET if delta is None else delta.text,
        keep_chars=UNSET if delta is None else delta.keep_chars,
    )


def _revision(event: SpeakerRevision, revised: Final | None, session_id: str) -> wire.SpeakerRevision:
    return wire.SpeakerRevision(
        session_id=session_id,
        segment_id=segment_id(event.utterance_id),
        speaker=known_label(event.speaker),
        words=None
        if revised is None
        else tuple(known_label(word.speaker) for word in revised.words if spoken_form(word.word)),
        start_ms=_ms(event.start_sample),
        end_ms=_ms(event.end_sample),
        resume_from_samples=event.resume_sample if event.ticket else UNSET,
        ticket=event.ticket or UNSET,
    )


def wire_words(words: tuple[Word, ...], *, speakers: bool = False) -> tuple[wire.Word, ...]:
    """Words as spoken (no leading space, no punctuation); times in seconds, to the millisecond."""
    return tuple(
        wire.Word(
            word=spoken,
            start_s=round(word.start_s, 3),
            end_s=round(word.end_s, 3),
            probability=_probability(word.probability),
            speaker=known_label(word.speaker) if speakers else UNSET,
        )
        for word in words
        if (spoken := spoken_form(word.word))
    )


def segment_id(utterance_id: str) -> str:
    return utterance_id if utterance_id.startswith("seg-") else f"seg-{utterance_id}"


def _timing(timing: Timing) -> wire.Timing:
    return wire.Timing(
        preprocess_ms=round(timing.preprocess_ms, 1),
        queue_wait_ms=round(timing.queue_wait_ms, 1),
        inference_ms=round(timing.inference_ms, 1),
        postprocess_ms=round(timing.postprocess_ms, 1),
        server_total_ms=round(timing.total_ms, 1),
        model=timing.model,
    )


def _ms(num_samples: int) -> float:
    return round(num_samples * 1000 / SAMPLE_RATE_HZ, 2)


def _probability(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4) if math.isfinite(value) else 0.0
