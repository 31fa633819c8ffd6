"""The NDJSON door's lines: the native protocol's server messages, one a line, and heartbeats between them.

The last line is `session_ended`. Options come as query parameters (`choices.choices_from_query`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from serve_app.asr.jobs import SAMPLE_RATE_HZ
from serve_app.errors import SottoError
from serve_app.events import Event
from serve_app.protocols import native
from serve_app.protocols.native_dialect import NativeEvents

MEDIA_TYPE = "application/x-ndjson"

_encoder = msgspec.json.Encoder()


class EventLines:
    """The lines of one session; `speakers`: it tells them apart."""

    def __init__(self, session_id: str, *, speakers: bool = False) -> None:
        self._events = NativeEvents(session_id, speakers=speakers)

    def line(self, event: Event) -> bytes:
        return _encoder.encode(self._events.message(event)) + b"\n"


def error_line(error: SottoError, session_id: str) -> bytes:
    return native.encode_error(error, session_id) + b"\n"


def heartbeat_line(num_samples: int) -> bytes:
    """Nothing else to say: `t_ms` is the audio taken so far, in milliseconds from the first sample."""
    t_ms = round(num_samples * 1000 / SAMPLE_RATE_HZ, 2)
    line: dict[str, Any] = {"type": "heartbeat", "t_ms": t_ms}
    return _encoder.encode(line) + b"\n"
