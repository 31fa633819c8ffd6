"""What clients of the live dialects say, and what becomes of it."""

import pytest

from serve_app.core.errors import ClientError, InvalidMessage, UnsupportedLanguage
from serve_app.core.jobs import Task
from serve_app.protocols.browser.first_frame import FirstFrameDialect
from serve_app.protocols.browser.interim_final import STATUS_EVERY, InterimFinalDialect
from serve_app.protocols.browser.whisper_live_kit import WhisperLiveKitDialect
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.dialect import (
    Audio,
    Cancel,
    ContainerAudio,
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
from serve_app.protocols.native.dialect import NativeDialect
from serve_app.protocols.native.opus_stream import OpusStreamDialect

CALM = Load("normal", 300, 8.0, False)


# interim_final


def test_start_opens_with_its_language():
    [command] = InterimFinalDialect().receive('{"event":"start","language":"auto"}')
    assert command == Open(SessionChoices(language="auto"))


def test_the_address_may_choose_and_start_overrules_its_language():
    dialect = InterimFinalDialect([("lang_code", "de"), ("min_silence_ms", "700")])
    [command] = dialect.receive('{"event":"start","language":"pt"}')
    assert command.choices == SessionChoices(language="pt", min_silence_ms=700)


def test_audio_without_start_opens():
    opened, audio = InterimFinalDialect().receive(b"\0\0")
    assert (opened, audio) == (Open(), Audio(b"\0\0"))


@pytest.mark.parametrize(
    ("rate", "choices"),
    [
        ("4", SessionChoices(partial_results=True, partial_interval_ms=250)),
        ("0.0001", SessionChoices(partial_results=True, partial_interval_ms=60_000)),
        ("500", SessionChoices(partial_results=True, partial_interval_ms=50)),
        ("0", SessionChoices(partial_results=False)),
    ],
)
def test_the_rate_becomes_an_interval(rate, choices):
    assert InterimFinalDialect().receive(f'{{"event":"set","interimRate":{rate}}}') == (Reconfigure(choices),)


def test_a_rate_set_before_the_start_is_kept():
    dialect = InterimFinalDialect()
    dialect.receive('{"event":"set","interimRate":2}')
    [command] = dialect.receive('{"event":"start"}')
    assert (command.choices.partial_results, command.choices.partial_interval_ms) == (True, 500)


def test_stop_ends():
    assert InterimFinalDialect().receive('{"event":"stop"}') == (End(),)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        "null",
        '{"event":"sing"}',
        '{"event":"set","interimRate":-1}',
        '{"event":"set","interimRate":"x"}',
        '{"event":"set","interimRate":1e999}',
        '{"event":"start","language":5}',
        '{"event":"start","x":"' + "y" * 20_000 + '"}',
        "[" * 10_000,
    ],
)
def test_nonsense_is_refused(frame):
    with pytest.raises(InvalidMessage):
        InterimFinalDialect().receive(frame)


def test_status_comes_when_it_changes_and_now_and_then():
    dialect = InterimFinalDialect()
    told = [bool(dialect.status(CALM)) for _ in range(2 * STATUS_EVERY)]
    assert told == [number % STATUS_EVERY == 0 for number in range(2 * STATUS_EVERY)]
    assert dialect.status(Load("critical", 3_000, 3.2, True)) != ()


# whisper_live_kit


def test_the_first_audio_opens_a_container_or_raw_samples():
    dialect = WhisperLiveKitDialect([("language", "de")])
    assert dialect.open_at_once() == ()
    opened, audio = dialect.receive(b"\x1a\x45")
    assert opened == Open(SessionChoices(language="de"), ContainerAudio(or_raw=RawAudio()))
    assert audio == Audio(b"\x1a\x45")
    dialect.opened("session-1")
    assert dialect.receive(b"\xdf\xa3") == (Audio(b"\xdf\xa3"),)


def test_announced_samples_are_not_sniffed():
    opened, _ = WhisperLiveKitDialect([("sample_rate", "48000")]).receive(b"OggS")
    assert opened.audio == RawAudio(sample_rate_hz=48_000)


def test_an_empty_frame_ends_and_text_is_refused():
    dialect = WhisperLiveKitDialect()
    dialect.receive(b"OggS")
    dialect.opened("s1")
    assert dialect.receive(b"") == (End(),)
    with pytest.raises(InvalidMessage):
        dialect.receive("hello")


def test_translation_into_english_is_the_one_there_is():
    opened, _ = WhisperLiveKitDialect([("target_language", "English")]).receive(b"OggS")
    assert opened.choices.task is Task.TRANSLATE
    with pytest.raises(InvalidMessage):
        WhisperLiveKitDialect([("target_language", "fr")]).open_at_once()


@pytest.mark.parametrize(
    "parameters", [[("mode", "sideways")], [("language", "klingon")], [("beam", "1"), ("vad_threshold", "7")]]
)
def test_parameters_that_make_no_sense_close_with_4400(parameters):
    dialect = WhisperLiveKitDialect(parameters)
    dialect.accepted()
    with pytest.raises(ClientError):
        dialect.open_at_once()
    assert dialect.farewell(1008, Totals()).close_code == 4400


# opus_stream


def test_the_stream_opens_at_once_with_what_the_address_says():
    dialect = OpusStreamDialect([("language", "pt"), ("session_id", "s1"), ("resume", "ticket"), ("x", "y")])
    assert dialect.open_at_once() == (Open(SessionChoices(language="pt"), ContainerAudio(), "s1", "ticket"),)


def test_raw_samples_can_be_announced():
    dialect = OpusStreamDialect([("sample_rate", "24000"), ("channels", "2")])
    assert dialect.open_at_once()[0].audio == RawAudio("pcm16", 24_000, 2)


@pytest.mark.parametrize(("rate", "rate_hz"), [("96000", 96_000), ("192000", 192_000), ("44100.0", 44_100)])
def test_any_rate_that_a_sound_card_has_can_be_announced(rate, rate_hz):
    parameters = [("sample_rate", rate)]
    (streamed,) = OpusStreamDialect(parameters).open_at_once()
    updated, _ = WhisperLiveKitDialect(parameters).receive(b"12")
    interim, _ = InterimFinalDialect(parameters).receive(b"12")
    for opened in (streamed, updated, interim):
        assert opened.audio == RawAudio(sample_rate_hz=rate_hz)
        assert isinstance(opened.audio.sample_rate_hz, int)


@pytest.mark.parametrize(
    "parameters",
    [
        [("channels", "9")],
        [("only_new_words", "perhaps")],
        [("sample_rate", "1")],
        [("sample_rate", "192001")],
        [("sample_rate", "44100.5")],
        [("sample_rate", "nan")],
    ],
)
def test_a_stream_with_a_wrong_address_does_not_open(parameters):
    with pytest.raises(InvalidMessage):
        OpusStreamDialect(parameters).open_at_once()


@pytest.mark.parametrize(
    ("frame", "command"),
    [
        (b"OggS", Audio(b"OggS")),
        ('{"type":"flush"}', Flush()),
        ('{"type":"end_session"}', End()),
        ('{"type":"cancel"}', Cancel()),
        ('{"type":"pong"}', KeepAlive()),
        ('{"type":"ping"}', Reply(('{"type":"pong"}',))),
    ],
)
def test_what_a_stream_may_say(frame, command):
    assert OpusStreamDialect().receive(frame) == (command,)


def test_an_empty_frame_says_nothing_in_a_stream():
    assert OpusStreamDialect().receive(b"") == ()


@pytest.mark.parametrize(
    "frame", ["", "{}", '{"type":"sing"}', "[" * 3_000, '{"type":"flush","x":"' + "y" * 5_000 + '"}']
)
def test_what_a_stream_may_not_say(frame):
    with pytest.raises(InvalidMessage):
        OpusStreamDialect().receive(frame)


# native


def test_the_native_start_may_bring_a_ticket():
    [command] = NativeDialect().receive(
        '{"type":"start_session","session_id":"s1","resume":"t","config":{"sample_rate":8000}}'
    )
    assert command == Open(
        SessionChoices(sample_rate=8_000), RawAudio(sample_rate_hz=8_000, whole_samples=True), "s1", "t"
    )


def test_only_new_words_in_the_address_of_the_native_door():
    with pytest.raises(InvalidMessage):
        NativeDialect([("only_new_words", "maybe")]).receive('{"type":"start_session"}')


# /ws


@pytest.mark.parametrize(
    ("frame", "audio"),
    [('{"event":"start"}', RawAudio()), (b"\0\0", ContainerAudio(or_raw=RawAudio()))],
)
def test_the_first_frame_tells_the_protocols_of_ws_apart(frame, audio):
    dialect = FirstFrameDialect()
    dialect.open_at_once()
    assert dialect.receive(frame)[0].audio == audio


@pytest.mark.parametrize("make", [WhisperLiveKitDialect, FirstFrameDialect])
def test_an_empty_first_frame_is_the_end_only_where_nothing_follows(make):
    dialect = make()
    dialect.open_at_once()
    assert dialect.receive(b"") == (EndUnlessMore(),)
    assert dialect.receive(b"\0\0")[0].audio == ContainerAudio(or_raw=RawAudio())


def test_an_empty_first_frame_does_not_tell_the_protocols_apart():
    dialect = FirstFrameDialect()
    dialect.receive(b"")
    assert dialect.receive('{"event":"start"}')[0].audio == RawAudio()


@pytest.mark.parametrize(
    ("parameters", "setting"), [([("protocol", "interim_final")], "whisperlivekit"), ([], "interim_final")]
)
def test_address_and_setting_overrule_the_first_frame(parameters, setting):
    dialect = FirstFrameDialect(parameters, protocol=setting)
    dialect.open_at_once()
    assert dialect.receive(b"\0\0") == (Open(), Audio(b"\0\0"))
    assert dialect.status_s is not None


def test_unknown_protocols_and_languages_are_refused():
    with pytest.raises(InvalidMessage):
        FirstFrameDialect([("protocol", "morse")]).open_at_once()
    with pytest.raises(UnsupportedLanguage):
        FirstFrameDialect([("language", "klingon")]).open_at_once()
