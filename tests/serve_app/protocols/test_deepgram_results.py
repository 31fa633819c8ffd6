"""What a live Deepgram stream says of what it heard: the shape of every message, and when it is sent."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.deepgram_stream import EVERYTHING, RAW, SECOND, dialect_of, final, messages, partial, replies
from fakes.on_the_wire import assert_same_json
from fakes.spoken_events import revision, spoken_by
from serve_app.core.errors import InvalidAudio, InvalidMessage, MaxSessionsReached
from serve_app.core.events import (
    EndReason,
    ModelStatus,
    SessionEnded,
    SessionError,
    SessionStarted,
    SoundWarning,
    SpeechEnded,
    SpeechStarted,
)
from serve_app.protocols.dialect import Flush, Totals

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "deepgram_live.json").read_text())
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def conversation():
    """Every kind of message, under its name in the golden file."""
    dialect = dialect_of(EVERYTHING)
    said = {}
    (said["speech_started"],) = messages(dialect.send(SpeechStarted(3_200)))
    (said["interim"],) = messages(dialect.send(partial()))
    dialect.receive(2 * SECOND)
    assert dialect.send(SpeechEnded(22_400)) == []
    (said["speech_final"],) = messages(dialect.send(final()))
    (said["utterance_end"],) = messages(replies(dialect.receive(SECOND)))
    dialect.receive('{"type":"Finalize"}')
    (said["from_finalize"],) = messages(dialect.send(final(2.0, 3.0, decided_s=3.0)))[:1]
    dialect.receive('{"type":"Finalize"}')
    (said["nothing_to_finalize"],) = messages([*dialect.heartbeat(3_000), *dialect.heartbeat(3_000)])
    dialect.send(SpeechStarted(48_000))
    (said["cut"],) = messages(dialect.send(final(3.0, 4.1, resume_s=3.9, decided_s=5.0)))
    (said["session_error"],) = messages(
        dialect.send(SessionError("INFERENCE_ERROR", "the model failed on this item", retryable=True))
    )
    try:
        dialect.receive('{"type":"Sing"}')
    except InvalidMessage as error:
        (said["schema_error"],) = messages(dialect.refuse(error))
    (said["undecodable"],) = messages(dialect.refuse(InvalidAudio("the data is no audio")))
    (said["full"],) = messages(dialect.refuse(MaxSessionsReached("Maximum sessions reached: 8/8")))
    (said["configure_success"],) = messages(
        replies(dialect.receive('{"type":"Configure","keyterms":["Sotto"]}'))
    )
    (said["configure_failure"],) = messages(
        replies(dialect.receive('{"type":"Configure","features":{"numerals":true}}'))
    )
    (said["diarized"],) = messages(dialect_of(RAW | {"diarize": "true"}).send(spoken_by(final(), 0, 0, 1)))
    (said["metadata"],) = messages(dialect.farewell(1000, Totals(audio_ms=3_000.0, sha256=SHA256)).frames)
    return said


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_every_message_is_the_golden_one(name):
    assert_same_json(conversation()[name], GOLDEN[name])


def test_every_message_has_a_golden_one():
    assert conversation().keys() == GOLDEN.keys()


def test_interims_are_sent_where_they_were_asked_for():
    assert dialect_of().send(partial()) == []


def test_words_without_marks_unless_asked_for():
    (message,) = messages(dialect_of().send(final()))
    (alternative,) = message["channel"]["alternatives"]
    assert alternative["transcript"] == "olá mundo"
    assert alternative["words"][0] == {"word": "olá", "start": 0.2, "end": 0.7, "confidence": 0.99}
    (message,) = messages(dialect_of(RAW | {"punctuate": "true"}).send(final(words=False)))
    (alternative,) = message["channel"]["alternatives"]
    assert alternative["transcript"] == "Olá, mundo."
    assert [word["punctuated_word"] for word in alternative["words"]] == ["Olá,", "mundo."]


@pytest.mark.parametrize("option", [{"diarize": "true"}, {"diarize_model": "latest"}])
def test_words_have_speakers_as_far_as_they_are_known(option):
    dialect = dialect_of(RAW | option)
    spoken = spoken_by(final(), 1, 1, None)
    (message,) = messages(dialect.send(spoken))
    assert [word.get("speaker") for word in message["channel"]["alternatives"][0]["words"]] == [1, None]
    (message,) = messages(dialect.send(replace(final(words=False), speaker=2)))
    assert [word["speaker"] for word in message["channel"]["alternatives"][0]["words"]] == [2, 2]
    assert dialect.send(revision(spoken, 0, 0, 0)) == []
    assert "warnings" not in message["metadata"]


def test_languages_are_named_in_multilingual_streams():
    (message,) = messages(dialect_of(RAW | {"language": "multi"}).send(final()))
    (alternative,) = message["channel"]["alternatives"]
    assert alternative["languages"] == ["pt"]
    assert {word["language"] for word in alternative["words"]} == {"pt"}


def test_replacements_reach_interims_and_finals():
    dialect = dialect_of(RAW | {"interim_results": "true", "replace": "olá:oi"})
    for event in (partial(), final()):
        (message,) = messages(dialect.send(event))
        assert message["channel"]["alternatives"][0]["transcript"].startswith("oi")


def test_endpointing_false_never_says_speech_final():
    dialect = dialect_of(RAW | {"endpointing": "false"})
    dialect.send(SpeechStarted(3_200))
    dialect.send(SpeechEnded(22_400))
    (message,) = messages(dialect.send(final()))
    assert (message["is_final"], message["speech_final"]) == (True, False)


def test_speech_events_are_sent_where_they_were_asked_for():
    assert dialect_of().send(SpeechStarted(3_200)) == []


def test_a_word_end_is_told_when_the_next_speech_shows_the_gap():
    dialect = dialect_of(EVERYTHING)
    dialect.receive(10 * SECOND)
    dialect.send(SpeechStarted(3_200))
    dialect.send(SpeechEnded(22_400))
    assert len(dialect.send(final())) == 1
    told = messages(dialect.send(SpeechStarted(5 * 16_000)))
    assert [message["type"] for message in told] == ["UtteranceEnd", "SpeechStarted"]


def test_the_last_word_end_is_told_at_the_end():
    dialect = dialect_of(EVERYTHING)
    dialect.send(SpeechStarted(3_200))
    dialect.send(SpeechEnded(22_400))
    dialect.receive(3 * SECOND)
    dialect.send(final())
    (message,) = messages(dialect.send(SessionEnded(EndReason.COMPLETED, 100 * 16_000, 1)))
    assert (message["type"], message["last_word_end"]) == ("UtteranceEnd", 1.4)


def test_a_finalize_is_answered_at_the_latest_at_the_end():
    dialect = dialect_of()
    dialect.receive('{"type":"Finalize"}')
    (message,) = messages(dialect.send(SessionEnded(EndReason.COMPLETED, 0, 0)))
    assert (message["from_finalize"], message["channel"]["alternatives"][0]["transcript"]) == (True, "")


def test_a_finalize_of_a_container_is_answered_by_the_next_final():
    dialect = dialect_of({})
    dialect.receive(b"OggS" + bytes(100))
    dialect.receive('{"type":"Finalize"}')
    (message,) = messages(dialect.send(final()))
    assert message["from_finalize"]


def test_channels_are_told_apart():
    dialect = dialect_of(RAW | {"channels": "2", "multichannel": "true", "vad_events": "true"})
    dialect.receive(2 * SECOND)  # one second of two channels
    assert dialect.receive('{"type":"Finalize","channel":1}') == [Flush(1)]
    (started,) = messages(dialect.send(SpeechStarted(0), 1))
    (first,) = messages(dialect.send(final(0, 1, decided_s=1.0), 0))
    (second,) = messages(dialect.send(final(0, 1, decided_s=1.0), 1))
    assert started["channel"] == [1, 2]
    assert (first["channel_index"], first["from_finalize"]) == ([0, 2], False)
    assert (second["channel_index"], second["from_finalize"]) == ([1, 2], True)
    (metadata,) = messages(dialect.farewell(1000, Totals(audio_ms=1_000)).frames)
    assert metadata["channels"] == 2


def test_what_has_no_message_is_silent():
    dialect = dialect_of(EVERYTHING)
    for event in (SessionStarted("s"), SoundWarning("clipping", 0, 0.5), ModelStatus(True, 0, 5.0)):
        assert dialect.send(event) == []


def test_warnings_come_with_the_first_result_and_at_the_end():
    dialect = dialect_of(RAW | {"sentiment": "true"})
    first, second = (messages(dialect.send(final()))[0]["metadata"] for _ in range(2))
    (metadata,) = messages(dialect.farewell(1000, Totals()).frames)
    assert [warning["parameter"] for warning in first["warnings"]] == ["sentiment"]
    assert "warnings" not in second
    assert metadata["warnings"] == first["warnings"]
