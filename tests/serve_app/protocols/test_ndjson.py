import json

from fakes.spoken_events import GREETING, revision

from serve_app.errors import InvalidAudio
from serve_app.events import EndReason, SessionEnded, SessionStarted
from serve_app.protocols import ndjson
from serve_app.protocols.native_dialect import NativeEvents


def test_events_are_the_native_messages_one_a_line():
    lines = ndjson.EventLines("s")
    for event in (SessionStarted("s"), SessionEnded(EndReason.COMPLETED, 16_000, 1)):
        line = lines.line(event)
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert (line[:-1].decode(),) == NativeEvents("s").frames(event)


def test_speakers_are_named_where_they_were_asked_for():
    assert "speaker" not in json.loads(ndjson.EventLines("s").line(GREETING))
    lines = ndjson.EventLines("s", speakers=True)
    assert json.loads(lines.line(GREETING))["speaker"] == "SPEAKER_01"
    revised = json.loads(lines.line(revision(GREETING, 1, 1, 1, 1, 1)))
    assert (revised["type"], revised["words"]) == ("speaker_revision", ["SPEAKER_02"] * 4)


def test_heartbeats_say_how_much_audio_was_taken():
    assert json.loads(ndjson.heartbeat_line(24_000)) == {"type": "heartbeat", "t_ms": 1500.0}


def test_errors_are_native_errors():
    line = json.loads(ndjson.error_line(InvalidAudio("cut short"), "s"))
    assert (line["type"], line["code"], line["message"]) == ("error", "INVALID_MESSAGE", "cut short")
