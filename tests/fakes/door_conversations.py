"""Every live door, with the frames of a conversation that it takes."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TypeAlias

from fakes.encoded_audio import encoded

Frame: TypeAlias = str | bytes

_SAMPLES = bytes(range(256)) * 10
_OGG, _WEBM = encoded("ogg", 1.0), encoded("webm", 1.0)


def _cut(audio: bytes, size: int = 900) -> list[Frame]:
    return [audio[start : start + size] for start in range(0, len(audio), size)]


def _text(**message: object) -> str:
    return json.dumps(message)


_NATIVE: list[Frame] = [
    _text(type="start_session", session_id="s1", config={"lang_code": "pt", "sample_rate": 16_000}),
    _SAMPLES, _SAMPLES, _text(type="flush"), _SAMPLES, _text(type="end_session"), _text(type="cancel"),
]  # fmt: skip
_INTERIM_FINAL: list[Frame] = [
    _text(event="start", language="auto"), _SAMPLES, _text(event="set", interimRate=4), _SAMPLES,
    _text(event="stop"),
]  # fmt: skip
_STREAM: list[Frame] = [*_cut(_OGG)[:8], _text(type="flush"), _text(type="ping"), _text(type="end_session")]
_REALTIME: list[Frame] = [
    _text(
        type="session.update",
        session={
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": {"model": "whisper-1", "language": "en", "prompt": "p"},
                    "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500},
                }
            },
        },
    ),
    _text(type="input_audio_buffer.append", audio=base64.b64encode(_SAMPLES).decode()),
    _text(type="input_audio_buffer.commit"),
    _text(type="input_audio_buffer.append", audio=base64.b64encode(_SAMPLES).decode()),
    _text(type="input_audio_buffer.clear"),
]
_LISTEN: list[Frame] = [
    _SAMPLES, _text(type="KeepAlive"), _SAMPLES, _text(type="Finalize"), _SAMPLES, _text(type="CloseStream")
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A door's address and a conversation that it would take."""

    name: str
    path: str
    valid: tuple[Frame, ...]
    query: str = ""


TARGETS = (
    Target("/ws/stt", "/ws/stt", tuple(_NATIVE)),
    Target("/ws start", "/ws", tuple(_INTERIM_FINAL)),
    Target("/ws audio", "/ws", (*_cut(_WEBM)[:8], b""), "language=en"),
    Target("/asr full", "/asr", (*_cut(_WEBM)[:8], b"")),
    Target("/asr diff", "/asr", (_SAMPLES, _SAMPLES, b""), "mode=diff"),
    Target("/ws/stream", "/ws/stream", tuple(_STREAM)),
    Target("/ws/stream new words", "/ws/stream", tuple(_STREAM), "only_new_words=true"),
    Target("/v1/realtime", "/v1/realtime", tuple(_REALTIME), "intent=transcription"),
    Target(
        "/v1/listen raw",
        "/v1/listen",
        tuple(_LISTEN),
        "encoding=linear16&sample_rate=16000&channels=2&multichannel=true",
    ),
    Target("/v1/listen container", "/v1/listen", (*_cut(_OGG)[:8], *_LISTEN[1:])),
)
