"""Messages of a session that continues another, as if that one had gone on."""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from sotto_client.messages import (
    FinalTranscript,
    Message,
    PartialTranscript,
    SessionEnded,
    SpeakerRevision,
    VadEvent,
)


def continued(message: Message, number: int, shift_ms: float, num_finals_before: int) -> Message:
    """Times `shift_ms` later; segment ids, unique in their own session only, with the session's `number`.

    Speakers keep their labels, though they are counted anew in every session.
    """
    match message:
        case VadEvent():
            return replace(message, t_ms=message.t_ms + shift_ms)
        case PartialTranscript() | SpeakerRevision():
            return replace(
                message,
                segment_id=f"{message.segment_id}.{number}",
                start_ms=message.start_ms + shift_ms,
                end_ms=message.end_ms + shift_ms,
            )
        case FinalTranscript():
            return _final(message, number, shift_ms)
        case SessionEnded():
            return replace(
                message,
                total_audio_ms=message.total_audio_ms + shift_ms,
                total_segments=message.total_segments + num_finals_before,
            )
        case _:
            return message


def _final(message: FinalTranscript, number: int, shift_ms: float) -> FinalTranscript:
    shift_s = shift_ms / 1000
    return replace(
        message,
        segment_id=f"{message.segment_id}.{number}",
        start_ms=message.start_ms + shift_ms,
        end_ms=message.end_ms + shift_ms,
        endpoint_ms=UNSET if message.endpoint_ms is UNSET else message.endpoint_ms + shift_ms,
        words=tuple(
            replace(word, start_s=word.start_s + shift_s, end_s=word.end_s + shift_s)
            for word in message.words
        ),
    )
