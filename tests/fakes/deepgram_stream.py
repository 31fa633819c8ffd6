"""A live Deepgram stream without a socket: a dialect that is open, what a session tells it, what it says."""

import json
from datetime import UTC, datetime

from serve_app.core.events import Final, Partial, Timing
from serve_app.core.jobs import Word
from serve_app.protocols.deepgram.live import DeepgramDialect
from serve_app.protocols.dialect import Reply

REQUEST_ID = "0f3c8a52-7e4b-4f0e-9d52-3a1f5a6d7c11"
CREATED = datetime(2026, 5, 5, 18, 27, 2, 834_000, tzinfo=UTC)
TIMING = Timing(1.5, 8.2, 280.4, 1.1, 291.2, "base")
SECOND = bytes(32_000)

RAW = {"model": "nova-3", "encoding": "linear16", "sample_rate": "16000"}
EVERYTHING = RAW | {
    "interim_results": "true",
    "vad_events": "true",
    "utterance_end_ms": "1000",
    "smart_format": "true",
    "endpointing": "300",
    "sentiment": "true",
    "search": "mundo",
    "tag": "ward-3",
    "extra": "visit:12",
}


def dialect_of(query=RAW):
    parameters = query.items() if isinstance(query, dict) else query
    dialect = DeepgramDialect(parameters, request_id=REQUEST_ID, created=CREATED)
    assert dialect.accepted() == ()
    dialect.open_at_once()
    dialect.opened("session-1")
    return dialect


def partial(text="Olá mun", start_s=0.2, end_s=1.2):
    return Partial("u1", text, 0, 0.91, "pt", round(start_s * 16_000), round(end_s * 16_000), TIMING)


def final(start_s=0.2, end_s=1.6, *, resume_s=None, decided_s=1.9, words=True, language="pt"):
    at = [round(second * 16_000) for second in (start_s, end_s, resume_s or end_s, decided_s)]
    spoken = (Word(" Olá,", start_s, start_s + 0.5, 0.99), Word(" mundo.", start_s + 0.6, end_s - 0.2, 0.97))
    return Final(
        "u1", 0, "Olá, mundo.", spoken if words else (), 0.98, -0.1, language, 0.97, *at[:3], TIMING, at[3]
    )


def messages(frames):
    assert all(isinstance(frame, str) for frame in frames)
    return [json.loads(frame) for frame in frames]


def replies(commands):
    return [frame for command in commands if isinstance(command, Reply) for frame in command.frames]
