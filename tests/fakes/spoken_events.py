"""What a session says of two short utterances: for pinning how each live protocol writes it."""

from __future__ import annotations

from dataclasses import replace

from serve_app.core.events import (
    EndReason,
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionError,
    SessionStarted,
    SpeakerRevision,
    SpeechEnded,
    SpeechStarted,
    Timing,
)
from serve_app.core.jobs import Word

TIMING = Timing(1.0, 2.0, 30.0, 0.5, 520.0, "base")

WORDS = (
    Word(" Hello", 1.0, 1.4, 0.99),
    Word(" world.", 1.5, 1.9, 0.98),
    Word(" Good", 2.0, 2.2, 0.97),
    Word(" day.", 2.3, 2.6, 0.96),
)

LATER_WORDS = (Word(" Sí,", 12.0, 12.3, 0.9), Word(" doctor.", 12.4, 13.0, 0.9))


def partial(text: str, stable_chars: int, end_s: float, number: int = 0, start_s: float = 1.0) -> Partial:
    return Partial(
        f"seg-{number:04d}",
        text,
        stable_chars,
        0.9,
        "en",
        round(start_s * 16_000),
        round(end_s * 16_000),
        TIMING,
    )


def final(
    text: str, words: tuple[Word, ...], number: int, start_s: float, end_s: float, language="en"
) -> Final:
    return Final(
        f"seg-{number:04d}",
        number,
        text,
        words,
        0.95,
        -0.1,
        language,
        0.98,
        round(start_s * 16_000),
        round(end_s * 16_000),
        round(end_s * 16_000),
        TIMING,
        round((end_s + 0.5) * 16_000),
    )


TALK: tuple[Event, ...] = (
    SessionStarted("session-1234"),
    SpeechStarted(16_000),
    partial("hello", 0, 1.5),
    partial("Hello world", 5, 2.0),
    partial("Hello world good", 11, 2.5),
    SpeechEnded(41_600),
    final("Hello world. Good day.", WORDS, 0, 1.0, 2.8),
    SpeechStarted(192_000),
    partial("Si doctor", 2, 13.0, number=1, start_s=12.0),
    final("Sí, doctor.", LATER_WORDS, 1, 12.0, 13.2, "es"),
    SessionError("INFERENCE_ERROR", "the model failed", retryable=True),
    SessionEnded(EndReason.COMPLETED, 224_000, 2),
)
"""Stable text at 5 and 11 characters; a second utterance after a long silence, whose final differs from
the stable interim; an error; the end."""


def spoken_by(event: Final, speaker: int | None, *speakers: int | None) -> Final:
    """The final, its words spoken by `speakers`."""
    words = (replace(word, speaker=one) for word, one in zip(event.words, speakers, strict=True))
    return replace(event, speaker=speaker, words=tuple(words))


def revision(event: Final, speaker: int | None, *speakers: int | None, ticket: str = "") -> SpeakerRevision:
    """What is known now of a final that was sent."""
    return SpeakerRevision(
        event.utterance_id,
        event.sequence,
        speaker,
        speakers,
        event.start_sample,
        event.end_sample,
        event.resume_sample,
        ticket,
    )


ANSWER_WORDS = (Word(" -", 3.0, 3.0, 0.5), Word(" Sí,", 3.1, 3.4, 0.9), Word(" doctor.", 3.5, 4.0, 0.9))

GREETING = spoken_by(final("Hello world. Good day.", WORDS, 0, 1.0, 2.8), 0, 0, 0, 1, None)
ANSWER = spoken_by(final("- Sí, doctor.", ANSWER_WORDS, 1, 3.0, 4.1, "es"), None, None, None, None)

DIALOGUE: tuple[Event, ...] = (
    SessionStarted("session-1234"),
    partial("Hello world good", 11, 2.5),
    GREETING,
    partial("Si doctor", 2, 4.0, number=1, start_s=3.0),
    ANSWER,
    revision(ANSWER, 1, 1, 1, 1, ticket="ticket-2"),
    revision(GREETING, 0, 0, 0, 1, 1),
    revision(GREETING, 1, 1, 1, 1, 0),
    revision(final("Long ago.", WORDS[:2], 9, 1.0, 2.0), 2, 2, 2),
    SessionEnded(EndReason.COMPLETED, 80_000, 2),
)
"""Two voices in the first utterance, whose last word nobody has been found for yet; a second one whose
speaker is known later; corrections of both, and of one that was never sent."""
