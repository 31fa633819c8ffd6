import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.spoken_events import GREETING, revision
from serve_app.core.errors import InvalidAudio, InvalidMessage, SottoError, UnsupportedFormat
from serve_app.core.events import EndReason, SessionEnded, SessionStarted
from serve_app.protocols.dialect import Audio, ContainerAudio, Open, RawAudio, Totals
from serve_app.protocols.native.dialect import NativeEvents
from serve_app.protocols.native.ndjson import NdjsonDialect


def dialect_of(query=(), content_type="audio/pcm;rate=16000"):
    return NdjsonDialect(query, content_type, heartbeat_s=5.0)


def opened(*, speakers=False):
    dialect = dialect_of()
    if speakers:
        dialect.names_speakers()
    dialect.opened("s")
    return dialect


def line(frames):
    (frame,) = frames
    assert "\n" not in frame
    return json.loads(frame)


def test_events_are_the_native_messages_one_a_line():
    dialect = opened()
    for event in (SessionStarted("s"), SessionEnded(EndReason.COMPLETED, 16_000, 1)):
        assert tuple(dialect.send(event)) == tuple(NativeEvents("s").frames(event))
        line(dialect.send(event))


def test_speakers_are_named_where_they_were_asked_for():
    assert "speaker" not in line(opened().send(GREETING))
    dialect = opened(speakers=True)
    assert line(dialect.send(GREETING))["speaker"] == "SPEAKER_01"
    revised = line(dialect.send(revision(GREETING, 1, 1, 1, 1, 1)))
    assert (revised["type"], revised["words"]) == ("speaker_revision", ["SPEAKER_02"] * 4)


def test_heartbeats_say_how_much_audio_was_taken():
    assert line(opened().heartbeat(1_500.0)) == {"type": "heartbeat", "t_ms": 1500.0}
    assert line(opened().heartbeat(1 / 3)) == {"type": "heartbeat", "t_ms": 0.33}


def test_errors_are_native_errors():
    message = line(opened().refuse(InvalidAudio("cut short")))
    assert (message["type"], message["code"], message["message"]) == ("error", "INVALID_MESSAGE", "cut short")


def test_a_session_that_could_not_say_so_ends_all_the_same():
    assert opened().farewell(1000, Totals(1_000.0, 2)).frames == ()
    last = line(opened().farewell(1011, Totals(1_000.0, 2, ended=False)).frames)
    assert (last["type"], last["reason"], last["total_audio_ms"]) == ("session_ended", "error", 1000.0)


@pytest.mark.parametrize(
    ("content_type", "query", "audio"),
    [
        ("audio/webm", [("language", "pt")], ContainerAudio()),
        (None, [], ContainerAudio()),
        ("audio/pcm;rate=48000;channels=2", [], RawAudio("pcm16", 48_000, 2)),
        ("audio/pcm", [("sample_rate", "8000"), ("encoding", "alaw")], RawAudio("alaw", 8_000)),
        ("audio/basic", [("channels", "2")], RawAudio("mulaw", 8_000, 2)),
    ],
)
def test_the_address_and_the_content_type_open_the_session(content_type, query, audio):
    (command,) = dialect_of([("session_id", "abc"), *query], content_type).open_at_once()
    assert isinstance(command, Open)
    assert (command.audio, command.session_id, command.is_body) == (audio, "abc", True)


def test_what_makes_no_sense_is_refused_before_the_first_line():
    with pytest.raises(UnsupportedFormat):
        dialect_of((), "text/plain").open_at_once()
    with pytest.raises(InvalidMessage, match="vad_threshold"):
        dialect_of([("vad_threshold", "nan")]).open_at_once()


@given(st.lists(st.tuples(st.text(), st.text())), st.text() | st.none())
def test_any_address_opens_or_is_refused(query, content_type):
    with suppress(SottoError):
        (command,) = dialect_of(query, content_type).open_at_once()
        assert isinstance(command, Open)


def test_the_body_is_audio():
    assert tuple(opened().receive(b"ab")) == (Audio(b"ab"),)
