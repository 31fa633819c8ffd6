import json
import random
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.spoken_events import revision, spoken_by
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.jobs import Word
from serve_app.errors import (
    InferenceError,
    InvalidAudio,
    InvalidMessage,
    MaxSessionsReached,
    SottoError,
    UnsupportedLanguage,
)
from serve_app.events import (
    EndReason,
    Final,
    Partial,
    SessionEnded,
    SessionError,
    SessionStarted,
    SoundWarning,
    SpeechEnded,
    SpeechStarted,
    Timing,
)
from serve_app.protocols.deepgram.live import DeepgramDialect
from serve_app.protocols.dialect import (
    Audio,
    Dialect,
    End,
    Flush,
    KeepAlive,
    KnowsOpening,
    Load,
    Open,
    OpensAtOnce,
    RawAudio,
    Reconfigure,
    Reply,
    Totals,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "deepgram_live.json").read_text())
REQUEST_ID = "0f3c8a52-7e4b-4f0e-9d52-3a1f5a6d7c11"
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
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
    assert conversation()[name] == GOLDEN[name]


def test_every_message_has_a_golden_one():
    assert conversation().keys() == GOLDEN.keys()


def test_the_dialect_fits_the_seam():
    dialect: Dialect = dialect_of()
    assert isinstance(dialect, OpensAtOnce)
    assert isinstance(dialect, KnowsOpening)
    assert dialect.status(Load("high", 600, 4.0, False)) == ()
    assert dialect.heartbeat_s is not None


def test_the_address_opens_the_session():
    dialect = DeepgramDialect(EVERYTHING.items(), request_id=REQUEST_ID, created=CREATED)
    (opening,) = dialect.open_at_once()
    assert isinstance(opening, Open)
    assert opening.audio == RawAudio("pcm16", 16_000)
    assert (opening.choices.partial_results, opening.choices.min_silence_ms) == (True, 300)


@pytest.mark.parametrize(
    ("query", "kind"), [({"redact": "pci"}, InvalidMessage), ({"language": "klingon"}, UnsupportedLanguage)]
)
def test_a_bad_address_is_refused_in_its_own_shape_and_closed_without_metadata(query, kind):
    dialect = DeepgramDialect(query.items(), request_id=REQUEST_ID, created=CREATED)
    with pytest.raises(kind) as refused:
        dialect.open_at_once()
    (message,) = messages(dialect.refuse(refused.value))
    assert (message["type"], message["description"]) == ("Error", str(refused.value))
    assert "message" not in message
    assert dialect.farewell(1008, Totals()).frames == ()


def test_frames_of_a_client():
    dialect = dialect_of()
    assert dialect.receive(SECOND) == [Audio(SECOND)]
    assert dialect.receive('{"type":"KeepAlive"}') == [KeepAlive()]
    assert dialect.receive('{"type": "Finalize", "unheard_of": 1}') == [Flush()]
    assert dialect.receive('{"type":"Finalize","channel":0}') == [Flush(0)]
    assert dialect.receive('{"type":"CloseStream"}') == [End()]
    assert dialect.receive('{"type":"KeepAlive"}') == []
    assert dialect.receive('{"type":"CloseStream"}') == []
    with pytest.raises(InvalidMessage, match="closing"):
        dialect.receive(SECOND)


@pytest.mark.parametrize(
    ("message", "hotwords", "type_", "code"),
    [
        ({"keyterms": ["Sotto", "Ray"]}, "Sotto, Ray", "ConfigureSuccess", None),
        ({"keyterms": []}, "", "ConfigureSuccess", None),
        ({}, None, "ConfigureSuccess", None),
        ({"keyterms": ["x" * 1_001]}, None, "ConfigureFailure", "CONFIGURE_KEYTERM_LIMIT_EXCEEDED"),
        ({"features": {"numerals": True}}, None, "ConfigureFailure", "CONFIGURE_INTERNAL_ERROR"),
    ],
)
def test_key_terms_can_change_midway(message, hotwords, type_, code):
    dialect = dialect_of(RAW | {"keyterm": "Kube", "language": "pt"})
    *commands, reply = dialect.receive(json.dumps({"type": "Configure", **message}))
    (answer,) = messages(reply.frames)
    assert (answer["type"], answer.get("code")) == (type_, code)
    assert [(c.choices.hotwords, c.choices.language) for c in commands] == (
        [] if hotwords is None else [(hotwords, "pt")]
    )


def test_an_empty_binary_frame_closes_the_stream():
    assert dialect_of().receive(b"") == [End()]


@pytest.mark.parametrize("channel", [-1, 1, 99])
def test_a_channel_that_is_not_there_cannot_be_finalised(channel):
    with pytest.raises(InvalidMessage, match="of 1"):
        dialect_of().receive(json.dumps({"type": "Finalize", "channel": channel}))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"type":"Speak"}', '{"type":7}', '{"type":"Finalize","channel":"x"}']
    + ['{"type":"KeepAlive","x":' + "[" * 30_000 + "]" * 30_000 + "}", '"' + "x" * 70_000 + '"', "\ud800"],
)
def test_what_cannot_be_understood_is_a_schema_error_that_is_not_long(text):
    dialect = dialect_of()
    with pytest.raises(InvalidMessage) as refused:
        dialect.receive(text)
    (message,) = messages(dialect.refuse(refused.value))
    assert message["variant"] == "SchemaError"
    assert len(json.dumps(message)) < 2_000
    assert dialect.receive(SECOND) == [Audio(SECOND)], "and the stream goes on"


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
    for event in (SessionStarted("s"), SoundWarning("clipping", 0, 0.5)):
        assert dialect.send(event) == []


def test_warnings_come_with_the_first_result_and_at_the_end():
    dialect = dialect_of(RAW | {"sentiment": "true"})
    first, second = (messages(dialect.send(final()))[0]["metadata"] for _ in range(2))
    (metadata,) = messages(dialect.farewell(1000, Totals()).frames)
    assert [warning["parameter"] for warning in first["warnings"]] == ["sentiment"]
    assert "warnings" not in second
    assert metadata["warnings"] == first["warnings"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidAudio("no audio"), "DATA-0000: no audio"),
        (InferenceError("it failed"), "INFERENCE_ERROR: it failed"),
        (MaxSessionsReached("é" * 200), "MAX_SESSIONS_REACHED: " + "é" * 50),
    ],
)
def test_the_close_says_why(error, reason):
    dialect = dialect_of()
    dialect.refuse(error)
    assert dialect.farewell(1008, Totals())[1:] == (1008, reason)
    assert dialect.farewell(1000, Totals())[1:] == (1000, "")


CLIENT = [
    '{"type":"KeepAlive"}',
    '{"type":"Finalize","channel":0}',
    '{"type":"Configure","keyterms":["a"],"features":{"numerals":true}}',
    '{"type":"CloseStream"}',
]


def mutated(rng, text):
    frame = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(frame) + 1)
        match rng.randrange(3):
            case 0 if at < len(frame):
                frame[at] = rng.randrange(256)
            case 1:
                del frame[at : at + rng.randint(1, 8)]
            case _:
                frame[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(frame) if rng.random() < 0.1 else frame.decode("utf-8", "surrogateescape")


def test_a_hundred_thousand_mutated_frames_are_commands_or_refusals():
    rng = random.Random(20_260_505)
    dialect, refused = dialect_of(EVERYTHING), 0
    for number in range(100_000):
        if number % 50 == 0:
            dialect = dialect_of(EVERYTHING)
        try:
            commands = dialect.receive(mutated(rng, rng.choice(CLIENT)))
        except SottoError as error:
            refused += 1
            json.loads(*dialect.refuse(error))
        else:
            assert all(isinstance(c, Audio | Flush | KeepAlive | End | Reply | Reconfigure) for c in commands)
    assert refused > 10_000


EVENTS = st.one_of(
    st.builds(SpeechStarted, st.integers(0, 10**7)),
    st.builds(SpeechEnded, st.integers(0, 10**7)),
    st.builds(partial, st.text(), st.floats(0, 100), st.floats(0, 100)),
    st.builds(final, st.floats(0, 100), st.floats(0, 100), words=st.booleans()),
    st.just(SessionEnded(EndReason.COMPLETED, 10**7, 1)),
)


@given(st.lists(EVENTS | st.binary(max_size=64) | st.sampled_from(CLIENT) | st.just(None), max_size=30))
def test_any_order_of_events_and_frames_gives_messages(steps):
    dialect = dialect_of(EVERYTHING)
    for step in steps:
        if isinstance(step, str | bytes):
            with suppress(InvalidMessage):
                messages(replies(dialect.receive(step)))
        elif step is None:
            messages(dialect.heartbeat(1_000.0))
        else:
            messages(dialect.send(step))
