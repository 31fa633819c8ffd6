"""Messages as a client has them, with only what a test is about."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from sotto_client.messages import FinalTranscript, PartialTranscript, SessionEnded, SpokenWord, Timing

TIMING = Timing(
    preprocess_ms=0.0,
    queue_wait_ms=0.0,
    inference_ms=0.0,
    postprocess_ms=0.0,
    server_total_ms=0.0,
    model="",
)


def word(text: str, start_s: float, end_s: float, probability: float = 1.0) -> SpokenWord:
    return SpokenWord(word=text, start_s=start_s, end_s=end_s, probability=probability, speaker=None)


def partial(text: str, end_ms: float, *, segment: str = "s", stable_chars: int = 0) -> PartialTranscript:
    return PartialTranscript(
        session_id="s",
        segment_id=segment,
        text=text,
        confidence=1.0,
        stable_chars=stable_chars,
        language="en",
        start_ms=0.0,
        end_ms=end_ms,
        timing=TIMING,
    )


def final(
    text: str,
    end_ms: float,
    *,
    start_ms: float = 0.0,
    endpoint_ms: float | UnsetType = UNSET,
    segment: str = "s",
    words: tuple[SpokenWord, ...] = (),
) -> FinalTranscript:
    return FinalTranscript(
        session_id="s",
        segment_id=segment,
        text=text,
        confidence=1.0,
        words=words,
        audio_duration_ms=end_ms - start_ms,
        language="en",
        language_probability=1.0,
        start_ms=start_ms,
        end_ms=end_ms,
        endpoint_ms=endpoint_ms,
        timing=TIMING,
    )


def ended(reason: str, total_audio_ms: float, total_segments: int, session_id: str = "s") -> SessionEnded:
    return SessionEnded(
        session_id=session_id, reason=reason, total_audio_ms=total_audio_ms, total_segments=total_segments
    )
