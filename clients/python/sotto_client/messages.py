"""The server's messages as a client sees them: the records of `wire`, decoded.

The same records come out of the WebSocket (`LiveClient`) and out of the lines of `POST /transcribe/stream`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import msgspec
from msgspec import UNSET

from sotto_client.wire import (
    AudioWarning,
    Event,
    FinalTranscript,
    Heartbeat,
    LoadStatus,
    ModelStatus,
    PartialTranscript,
    SessionEnded,
    SessionStarted,
    SpeakerRevision,
    SpeechProbability,
    Ticket,
    Timing,
    VadEvent,
)
from sotto_client.wire import Error as ErrorMessage
from sotto_client.wire import Word as SpokenWord

__all__ = [
    "AudioWarning",
    "ModelStatus",
    "LoadStatus",
    "ErrorMessage",
    "FinalTranscript",
    "Heartbeat",
    "Message",
    "OtherMessage",
    "PartialTranscript",
    "SessionEnded",
    "SessionStarted",
    "SpeakerRevision",
    "SpeechProbability",
    "SpokenWord",
    "Ticket",
    "Timing",
    "VadEvent",
    "parse_message",
    "parse_word",
]


@dataclass(frozen=True, slots=True)
class OtherMessage:
    """A type that this client does not know: newer servers may send them."""

    type: str
    fields: Mapping[str, Any]


Message: TypeAlias = Event | Heartbeat | OtherMessage

_KNOWN: TypeAlias = Event | Heartbeat
_TYPES = frozenset(record.__struct_config__.tag for record in get_args(_KNOWN))
_NO_TICKET = {"resume_from_samples": 0, "ticket": ""}
_NO_TIMES = {"start_ms": 0.0, "end_ms": 0.0}
_NO_TIMING = {**dict.fromkeys(Timing.__struct_fields__, 0.0), "model": ""}
_LEFT_OUT: Mapping[str, Mapping[str, Any]] = {
    "session_started": {"resumed": False, **_NO_TICKET},
    "partial_transcript": {"stable_chars": 0, "language": "", **_NO_TIMES},
    "final_transcript": {
        "speaker": None,
        "language": "",
        "language_probability": 0.0,
        "doubted": "",
        "withheld": "",
        **_NO_TIMES,
        **_NO_TICKET,
    },
    "speaker_revision": {**_NO_TIMES, **_NO_TICKET},
    "error": {"session_id": None, "retryable": False},
}
"""What a client reads where a message has no such field: because there is nothing to say, or from servers of
the protocol's first version."""


def parse_message(fields: Mapping[str, Any]) -> Message:
    """One decoded JSON object to its record; absent optional fields get neutral values, `endpoint_ms` UNSET.

    Raises `msgspec.ValidationError` where a field is missing or of another type.
    """
    kind = str(fields.get("type", ""))
    if kind not in _TYPES:
        return OtherMessage(kind, fields)
    whole = {"session_id": "", **_LEFT_OUT.get(kind, {}), **fields}
    if kind in ("partial_transcript", "final_transcript"):
        whole["timing"] = {**_NO_TIMING, **fields.get("timing", {})}
    if kind != "final_transcript":
        message: _KNOWN = msgspec.convert(whole, _KNOWN)
        return message
    whole["words"] = [{"speaker": None, **word} for word in fields.get("words") or ()]
    final = msgspec.convert({"endpoint_ms": 0.0, **whole}, FinalTranscript)
    return final if "endpoint_ms" in fields else msgspec.structs.replace(final, endpoint_ms=UNSET)


def parse_word(fields: Mapping[str, Any]) -> SpokenWord:
    return msgspec.convert({"speaker": None, **fields}, SpokenWord)
