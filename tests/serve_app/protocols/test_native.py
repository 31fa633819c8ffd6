import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.core.errors import (
    InvalidMessage,
    MaxSessionsReached,
    QueueFull,
    SottoError,
    UnsupportedLanguage,
)
from serve_app.core.events import (
    EndReason,
    Final,
    Partial,
    SessionEnded,
    SessionError,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Timing,
)
from serve_app.core.jobs import Task, Word
from serve_app.protocols.choices import SessionChoices, choices_from_query
from serve_app.protocols.native import messages as native
from serve_app.protocols.native.dialect import NativeEvents
from serve_app.protocols.native.messages import (
    Cancel,
    EndSession,
    Flush,
    StartSession,
    decode_command,
)
from serve_app.session.options import SessionOptions
from serve_app.vad.options import EndpointingOptions

GOLDEN = Path(__file__).parents[2] / "golden" / "native"
CLIENT = json.loads((GOLDEN / "client.json").read_text())
SERVER = json.loads((GOLDEN / "server.json").read_text())
ADDITIONS = json.loads((GOLDEN / "additions.json").read_text())
DEFAULTS = SessionOptions(session_id="", language="en")

WORDS = (
    Word(" Olá,", 0.0, 0.4, 0.99),
    Word(" como", 0.5, 0.8, 0.97),
    Word(" você", 0.9, 1.2, 0.96),
    Word(" está?", 1.3, 1.6, 0.98),
    Word(" ...", 1.6, 1.7, 0.5),
)

EVENTS = {
    "session_started": SessionStarted("unique-session-id"),
    "speech_start": SpeechStarted(19_753),
    "speech_end": SpeechEnded(32_000),
    "partial_transcript": Partial(
        "seg-abc123", "Olá como", 4, 0.95, "pt", 0, 16_000, Timing(1.2, 5.3, 145.6, 0.8, 152.9, "base")
    ),
    "final_transcript": Final(
        "seg-abc123",
        0,
        "Olá, como você está?",
        WORDS,
        0.98,
        -0.02,
        "pt",
        0.97,
        0,
        28_800,
        28_800,
        Timing(1.5, 8.2, 280.4, 1.1, 291.2, "base"),
    ),
    "error": SessionError("QUEUE_FULL", "Queue full: 20/20", retryable=True),
    "session_ended": SessionEnded(EndReason.COMPLETED, 720_000, 12),
}


@pytest.mark.parametrize("name", sorted(SERVER))
def test_every_server_message_is_the_golden_one_and_its_named_additions(name):
    message = json.loads(*NativeEvents("unique-session-id").frames(EVENTS[name]))
    expected = {**SERVER[name], **ADDITIONS.get(name, {})}
    if "timing" in expected:
        expected["timing"] = {**expected["timing"], **ADDITIONS["timing"]}
    assert message == expected


def test_every_event_has_a_golden_message():
    assert EVENTS.keys() == SERVER.keys()


def test_every_client_message_of_the_seed_is_understood():
    commands = [decode_command(json.dumps(message)) for message in CLIENT]
    assert commands == [
        StartSession(
            session_id="unique-session-id",
            config=SessionChoices(
                lang_code="pt",
                sample_rate=16_000,
                vad_enabled=True,
                vad_threshold=0.5,
                partial_results=True,
                word_timestamps=True,
            ),
        ),
        Flush(),
        EndSession(),
        Cancel(),
    ]


def test_choices_override_only_what_they_name():
    command = decode_command(
        '{"type":"start_session","config":{"lang_code":"pt-BR","vad_enabled":false,"vad_threshold":0.3,'
        '"partial_results":false,"word_timestamps":false,"task":"translate","prompt":"Dr. Silva",'
        '"min_silence_ms":700,"max_utterance_ms":12000,"partial_interval_ms":200,'
        '"max_partial_window_ms":4000,"encoding":"mulaw","sample_rate":8000,"unheard_of":[1,{"a":null}]}}'
    )
    assert isinstance(command, StartSession)
    assert command.session_id is None
    assert command.config is not None
    assert (command.config.pcm_encoding, command.config.sample_rate_hz) == ("mulaw", 8_000)
    assert command.config.session_options("s", DEFAULTS) == SessionOptions(
        session_id="s",
        language="pt",
        task=Task.TRANSLATE,
        partials=False,
        partial_interval_ms=200,
        max_partial_window_ms=4_000,
        word_timestamps=False,
        prompt="Dr. Silva",
        endpointing=EndpointingOptions(
            enabled=False, threshold=0.3, min_silence_ms=700, max_utterance_ms=12_000
        ),
    )


def test_no_choices_are_the_defaults():
    command = decode_command('{"type":"start_session","config":null}')
    assert isinstance(command, StartSession)
    options = (command.config or SessionChoices()).session_options("s", DEFAULTS)
    assert options == SessionOptions(session_id="s", language="en")
    assert SessionChoices().pcm_encoding == "pcm16"
    assert SessionChoices().sample_rate_hz == 16_000


def test_language_auto_means_detect_whatever_the_default():
    assert SessionChoices(lang_code="auto").session_options("s", DEFAULTS).language is None


def test_language_is_lang_code_under_another_name():
    choices = SessionChoices(lang_code="pt", language="Portuguese")
    assert choices.session_options("s", DEFAULTS).language == "pt"
    with pytest.raises(InvalidMessage, match="two different languages"):
        SessionChoices(lang_code="pt", language="en").session_options("s", DEFAULTS)


def test_an_unknown_language_is_refused_by_name():
    with pytest.raises(UnsupportedLanguage, match="klingon"):
        SessionChoices(lang_code="klingon").session_options("s", DEFAULTS)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("", "malformed JSON"),
        ("{", "malformed JSON"),
        ("not json", "malformed JSON"),
        ("[]", "Expected 'object', got 'array'"),
        ("null", "Expected 'object', got 'null'"),
        ("{}", "missing required field 'type'"),
        ('{"type":"start"}', "Invalid value 'start' - at '$.type'"),
        ('{"type":7}', "Expected 'str' - at '$.type'"),
        ('{"type":"start_session","session_id":7}', "$.session_id"),
        ('{"type":"start_session","session_id":""}', "$.session_id"),
        ('{"type":"start_session","session_id":"a\\nb"}', "$.session_id"),
        ('{"type":"start_session","session_id":"' + "x" * 129 + '"}', "$.session_id"),
        ('{"type":"start_session","config":[]}', "$.config"),
        ('{"type":"start_session","config":{"sample_rate":7999}}', ">= 8000.0 - at '$.config.sample_rate'"),
        (
            '{"type":"start_session","config":{"sample_rate":192001}}',
            "<= 192000.0 - at '$.config.sample_rate'",
        ),
        (
            '{"type":"start_session","config":{"sample_rate":44100.5}}',
            "a multiple of 1.0 - at '$.config.sample_rate'",
        ),
        ('{"type":"start_session","config":{"sample_rate":"16000"}}', "$.config.sample_rate"),
        ('{"type":"start_session","config":{"sample_rate":1e999}}', "$.config.sample_rate"),
        ('{"type":"start_session","config":{"vad_threshold":NaN}}', "malformed JSON"),
        ('{"type":"start_session","config":{"vad_threshold":1.01}}', "$.config.vad_threshold"),
        ('{"type":"start_session","config":{"vad_threshold":-1}}', "$.config.vad_threshold"),
        ('{"type":"start_session","config":{"vad_enabled":1}}', "$.config.vad_enabled"),
        ('{"type":"start_session","config":{"encoding":"mp3"}}', "$.config.encoding"),
        ('{"type":"start_session","config":{"task":"summarise"}}', "$.config.task"),
        ('{"type":"start_session","config":{"min_silence_ms":0}}', "$.config.min_silence_ms"),
        ('{"type":"start_session","config":{"max_utterance_ms":30001}}', "$.config.max_utterance_ms"),
        ('{"type":"flush","x":' + "[" * 30_000 + "]" * 30_000 + "}", "nested too deeply"),
        ('{"type":"flush","x":"' + "y" * 70_000 + '"}', "the limit is 65536"),
        (b"\xff\xfe", "malformed JSON"),
        ("\ud800", "malformed JSON"),
    ],
)
def test_hostile_frames_are_invalid_messages_that_say_why(frame, complaint):
    with pytest.raises(InvalidMessage) as refused:
        decode_command(frame)
    assert complaint in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_long_unknown_type_is_not_echoed_in_full():
    with pytest.raises(InvalidMessage) as refused:
        decode_command('{"type":"' + "z" * 5_000 + '"}')
    assert len(str(refused.value)) < 400


@given(st.text() | st.binary())
def test_any_frame_is_a_command_or_a_sotto_error(frame):
    with suppress(SottoError):
        assert isinstance(decode_command(frame), StartSession | Flush | EndSession | Cancel)


@given(st.data())
def test_any_mutation_of_a_real_frame_is_a_command_or_a_sotto_error(data):
    frame = bytearray(json.dumps(data.draw(st.sampled_from(CLIENT))).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                frame[at] = data.draw(st.integers(0, 255))
            case "cut":
                del frame[at : at + data.draw(st.integers(1, 8))]
            case "insert":
                frame[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        if not frame:
            break
    try:
        command = decode_command(bytes(frame))
        if isinstance(command, StartSession) and command.config is not None:
            command.config.session_options("s", DEFAULTS)
    except SottoError:
        pass


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(SessionChoices.__struct_fields__)), JSON_VALUES))
def test_any_config_gives_options_in_range_or_a_sotto_error(config):
    try:
        command = decode_command(json.dumps({"type": "start_session", "config": config}))
        assert isinstance(command, StartSession)
        assert command.config is not None
        options = command.config.session_options("s", DEFAULTS)
    except SottoError:
        return
    assert 8_000 <= command.config.sample_rate_hz <= 192_000
    assert 0 <= options.endpointing.threshold <= 1
    assert options.endpointing.max_utterance_ms <= 30_000


def test_errors_of_the_shell_carry_code_and_whether_to_retry():
    message = json.loads(native.encode_error(QueueFull("Queue full: 20/20"), "unique-session-id"))
    assert message == {**SERVER["error"], **ADDITIONS["error"]}
    before = json.loads(native.encode_error(InvalidMessage("audio before start_session"), None))
    assert (before["code"], before["session_id"], before["retryable"]) == ("INVALID_MESSAGE", None, False)
    assert json.loads(native.encode_error(MaxSessionsReached("full"), None))["code"] == "MAX_SESSIONS_REACHED"


@pytest.mark.parametrize(
    ("value", "sent"), [(1.2, 1.0), (-0.1, 0.0), (math.nan, 0.0), (math.inf, 0.0), (0.123456, 0.1235)]
)
def test_confidence_is_always_a_probability(value, sent):
    event = Partial("seg-1", "x", 0, value, "en", 0, 1, Timing())
    assert native.event_message(event, "s").confidence == sent


def test_segment_ids_begin_with_seg():
    assert native.segment_id("seg-0001") == "seg-0001"
    assert native.segment_id("u7") == "seg-u7"


def test_query_parameters_are_the_same_choices():
    session_id, choices = choices_from_query(
        [
            ("session_id", "abc"),
            ("language", "pt"),
            ("vad_filter", "false"),
            ("vad_threshold", "0.4"),
            ("min_silence_ms", "600"),
            ("partial_results", "0"),
            ("prompt", ""),
            ("unheard_of", "x"),
        ]
    )
    assert session_id == "abc"
    assert choices == SessionChoices(
        language="pt", vad_enabled=False, vad_threshold=0.4, min_silence_ms=600, partial_results=False
    )
    assert choices_from_query([]) == (None, SessionChoices())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vad_threshold", "nan"),
        ("vad_threshold", "inf"),
        ("vad_threshold", "2"),
        ("sample_rate", "4000"),
        ("sample_rate", "sixteen"),
        ("partial_results", "maybe"),
        ("session_id", "a\x00b"),
        ("task", "sing"),
    ],
)
def test_bad_query_parameters_are_refused_by_name(name, value):
    with pytest.raises(InvalidMessage, match=name):
        choices_from_query([(name, value)])


def test_a_parameter_given_twice_must_agree():
    assert choices_from_query([("language", "pt"), ("language", "pt")])[1].language == "pt"
    with pytest.raises(InvalidMessage, match="given twice"):
        choices_from_query([("language", "pt"), ("language", "en")])


@given(
    st.lists(
        st.tuples(st.sampled_from([*SessionChoices.__struct_fields__, "session_id", "vad_filter"]), st.text())
    )
)
def test_any_query_is_choices_or_a_sotto_error(parameters):
    with suppress(SottoError):
        choices_from_query(parameters)[1].session_options("s", DEFAULTS)
