"""A model that is late, in the words of each live protocol that has some for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_app.core.events import ModelStatus
from serve_app.protocols.browser.first_frame import FirstFrameDialect
from serve_app.protocols.browser.interim_final import InterimFinalDialect
from serve_app.protocols.browser.whisper_live_kit import WhisperLiveKitDialect
from serve_app.protocols.dialect import Load
from serve_app.protocols.native.dialect import NativeDialect
from serve_app.protocols.native.ndjson import NdjsonDialect
from serve_app.protocols.native.opus_stream import OpusStreamDialect
from sotto_client import wire
from sotto_client.messages import parse_message

STALLED, RESUMED = ModelStatus(True, 32_000, 5.25), ModelStatus(False, 48_000, 9.0)


def told(dialect: Any, first_frame: str | bytes | None, *events: ModelStatus) -> list[dict[str, Any]]:
    if first_frame is not None:
        dialect.receive(first_frame)
    dialect.opened("session-1")
    if hasattr(dialect, "anchored"):
        dialect.anchored(1_700_000_000.25)
    frames = [frame for event in events for frame in dialect.send(event)]
    return [json.loads(frame) for frame in frames]


@pytest.mark.parametrize(
    ("dialect", "first_frame"),
    [
        (NativeDialect(), '{"type":"start_session"}'),
        (OpusStreamDialect(()), b"OggS"),
        (NdjsonDialect((), "audio/wav", heartbeat_s=5.0), None),
    ],
    ids=["/ws/stt", "/ws/stream", "/transcribe/stream"],
)
def test_the_native_protocol_has_a_message(dialect: Any, first_frame: str | bytes | None) -> None:
    stalled, resumed = told(dialect, first_frame, STALLED, RESUMED)
    about = {"type": "model_status", "session_id": "session-1"}
    assert stalled == {**about, "state": "stalled", "t_ms": 2000.0, "waited_ms": 5250.0}
    assert resumed == {**about, "state": "resumed", "t_ms": 3000.0, "waited_ms": 9000.0}
    assert isinstance(parse_message(stalled), wire.ModelStatus)


def test_the_status_of_interims_and_finals_says_it_beside_the_load() -> None:
    dialect = InterimFinalDialect(())
    stalled, resumed = told(dialect, '{"event":"start"}', STALLED, RESUMED)
    nothing = {"backpressure": "normal", "cooldown_ms": 0, "tail_s": 0.0, "interim_paused": False}
    assert stalled == {"type": "status", **nothing, "stalled": True}
    assert resumed == {"type": "status", **nothing, "stalled": False}
    dialect.status(Load("high", 440, 4.2, True))
    (again,) = [json.loads(frame) for frame in dialect.send(STALLED)]
    assert (again["backpressure"], again["stalled"]) == ("high", True)


@pytest.mark.parametrize("make", [WhisperLiveKitDialect, FirstFrameDialect])
def test_updates_say_how_far_behind_they_are(make: Any) -> None:
    stalled, resumed = told(make(()), b"\x1a\x45\xdf\xa3", STALLED, RESUMED)
    assert stalled["remaining_time_transcription"] == 5.25
    assert resumed["remaining_time_transcription"] == 0.0
    assert "error" not in stalled
