"""The live Deepgram stream, frame by frame: how it opens, what a client may send, and how it closes."""

import json
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.deepgram_stream import (
    CREATED,
    EVERYTHING,
    RAW,
    REQUEST_ID,
    SECOND,
    dialect_of,
    final,
    messages,
    partial,
    replies,
)
from serve_app.core.errors import (
    InferenceError,
    InvalidAudio,
    InvalidMessage,
    MaxSessionsReached,
    SottoError,
    UnsupportedLanguage,
)
from serve_app.core.events import (
    EndReason,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
)
from serve_app.protocols.deepgram.live import DeepgramDialect
from serve_app.protocols.dialect import (
    Audio,
    Dialect,
    End,
    EndUnlessMore,
    Flush,
    KeepAlive,
    Load,
    Open,
    RawAudio,
    Reconfigure,
    Reply,
    Totals,
)


def test_the_dialect_fits_the_seam():
    dialect: Dialect = dialect_of()
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
        ({"keyterms": ["Kube:2", "ratio 3:1"]}, "Kube:2:1, ratio 3:1:1", "ConfigureSuccess", None),
        ({"keyterms": ["x" * 10_001]}, None, "ConfigureFailure", "CONFIGURE_KEYTERM_LIMIT_EXCEEDED"),
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
    dialect = dialect_of()
    dialect.receive(b"\0\0")
    assert dialect.receive(b"") == [End()]


def test_an_empty_first_frame_closes_the_stream_only_where_nothing_follows():
    assert dialect_of().receive(b"") == [EndUnlessMore()]


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


@pytest.mark.slow
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


@pytest.mark.slow
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
