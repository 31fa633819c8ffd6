import json

from serve_app.errors import InvalidAudio
from serve_app.events import EndReason, SessionEnded, SessionStarted
from serve_app.protocols import native, ndjson


def test_events_are_the_native_messages_one_a_line():
    for event in (SessionStarted("s"), SessionEnded(EndReason.COMPLETED, 16_000, 1)):
        line = ndjson.event_line(event, "s")
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert line[:-1] == native.encode_event(event, "s")


def test_heartbeats_say_how_much_audio_was_taken():
    assert json.loads(ndjson.heartbeat_line(24_000)) == {"type": "heartbeat", "t_ms": 1500.0}


def test_errors_are_native_errors():
    line = json.loads(ndjson.error_line(InvalidAudio("cut short"), "s"))
    assert (line["type"], line["code"], line["message"]) == ("error", "INVALID_MESSAGE", "cut short")
