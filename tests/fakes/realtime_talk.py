"""A conversation with the Realtime dialect, written down: what each side says, in order."""

from __future__ import annotations

import base64
import json
from typing import Any

from serve_app.core.errors import SottoError
from serve_app.core.events import (
    Acknowledged,
    Event,
    Final,
    Partial,
    SessionStarted,
    Timing,
)
from serve_app.core.jobs import Word
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.protocols.dialect import Audio, Command, Reply
from serve_app.protocols.openai.realtime import RealtimeDialect
from serve_app.protocols.openai.realtime_session import LOGPROBS

TIMING = Timing(1.0, 2.0, 30.0, 0.5, 33.5, "base")


class RealtimeTalk:
    """Does what a shell does: replies, opened sessions and errors become frames in `heard`."""

    def __init__(self, dialect: RealtimeDialect) -> None:
        self.dialect = dialect
        self.heard: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        self._take(dialect.accepted())

    def say(self, event: dict[str, Any] | str | bytes) -> list[dict[str, Any]]:
        """Send a client's event; what is answered at once."""
        before = len(self.heard)
        frame = json.dumps(event) if isinstance(event, dict) else event
        try:
            commands = list(self.dialect.receive(frame))
        except SottoError as error:
            self._take(self.dialect.refuse(error))
            return self.heard[before:]
        for command in commands:
            match command:
                case Reply(frames):
                    self._take(frames)
                case _:
                    self.commands.append(command)
                    if type(command).__name__ == "Open":
                        self.dialect.opened("s1")
                        self.happen(SessionStarted("s1"))
        return self.heard[before:]

    def audio(self, seconds: float, rate_hz: int = 24_000) -> list[dict[str, Any]]:
        silence = base64.b64encode(bytes(2 * round(seconds * rate_hz))).decode()
        return self.say({"type": "input_audio_buffer.append", "audio": silence})

    def happen(self, *events: Event) -> list[dict[str, Any]]:
        """Events of the session; the frames that they become."""
        before = len(self.heard)
        for event in events:
            self._take(self.dialect.send(event))
        return self.heard[before:]

    @property
    def num_audio_bytes(self) -> int:
        return sum(len(command.data) for command in self.commands if isinstance(command, Audio))

    def _take(self, frames: Any) -> None:
        self.heard += [json.loads(frame) for frame in frames]


def partial(text: str, stable: int, start_s: float, end_s: float, number: int = 1) -> Partial:
    return Partial(f"seg-{number:04d}", text, stable, 0.9, "pt", _samples(start_s), _samples(end_s), TIMING)


def final(text: str, start_s: float, end_s: float, number: int = 1) -> Final:
    words = tuple(Word(f" {word}", start_s, end_s, 0.5) for word in text.split())
    start, end = _samples(start_s), _samples(end_s)
    return Final(f"seg-{number:04d}", number - 1, text, words, 0.9, -0.1, "pt", 0.95, start, end, end, TIMING)


def nothing(at_s: float) -> Acknowledged:
    """An utterance without words ended at `at_s`."""
    return Acknowledged(_samples(at_s), "")


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


def update(**fields):
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": fields}}}


MANUAL = update(turn_detection=None)


def talk(**options):
    return RealtimeTalk(RealtimeDialect("abc", expires_at=1_700_000_000, **options))


def manual(**options):
    spoken = talk(**options)
    spoken.say(MANUAL)
    return spoken


def kinds(frames):
    return [frame["type"].removeprefix("conversation.item.input_audio_transcription.") for frame in frames]


def transcripts(frames):
    return [frame["transcript"] for frame in frames if "transcript" in frame]


GA = {
    "type": "session.update",
    "session": {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": {"type": "near_field"},
                "transcription": {
                    "model": "gpt-4o-transcribe",
                    "language": "pt",
                    "prompt": "Consulta",
                    "keywords": ["dipirona"],
                    "delay": "low",
                },
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.6,
                    "prefix_padding_ms": 200,
                    "silence_duration_ms": 400,
                    "create_response": False,
                },
            }
        },
        "include": [LOGPROBS],
    },
}

BETA = {
    "type": "transcription_session.update",
    "session": {
        "input_audio_format": "g711_ulaw",
        "input_audio_transcription": {"model": "whisper-1", "language": "pt"},
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
        "include": [LOGPROBS],
    },
}
