from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.core.errors import InvalidMessage, SottoError, UnsupportedLanguage
from serve_app.core.keyterms import Keyterm, parse_keyterms
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.deepgram.options import (
    MIN_ENDPOINT_MS,
    ListenOptions,
    OptionWarning,
    TextOptions,
    parse_options,
)
from serve_app.protocols.dialect import ContainerAudio, RawAudio
from serve_app.session.options import SessionOptions
from serve_app.speakers.turns import SpeakerMode

LIVEKIT = [
    ("model", "nova-3"), ("punctuate", "true"), ("smart_format", "false"), ("no_delay", "true"),
    ("interim_results", "true"), ("encoding", "linear16"), ("vad_events", "true"), ("sample_rate", "16000"),
    ("channels", "1"), ("endpointing", "25"), ("filler_words", "true"), ("profanity_filter", "false"),
    ("numerals", "false"), ("mip_opt_out", "false"), ("keyterm", "Sotto"), ("language", "en-US"),
]  # fmt: skip


def warned(options):
    return [warning.parameter for warning in options.warnings]


def test_what_a_voice_agent_asks_for():
    options = parse_options(LIVEKIT, live=True)
    assert options == ListenOptions(
        model="nova-3",
        language="en",
        audio=RawAudio("pcm16", 16_000, 1),
        interim_results=True,
        endpoint_ms=MIN_ENDPOINT_MS,
        vad_events=True,
        text=TextOptions(punctuated=True, smart_format=False, numerals=False),
        hotwords="Sotto",
        warnings=(OptionWarning("filler_words", "the models here leave filler words out"),),
    )


def test_nothing_asked_for_is_a_container_without_interims_or_marks():
    options = parse_options([], live=True)
    assert options == ListenOptions()
    session = options.session_choices().session_options("s", SessionOptions("", language="pt"))
    assert (session.language, session.partials, session.word_timestamps) == ("pt", False, True)


@pytest.mark.parametrize(
    ("query", "audio"),
    [
        ([("encoding", "mulaw")], RawAudio("mulaw", 8_000)),
        ([("encoding", "alaw"), ("sample_rate", "16000")], RawAudio("alaw", 16_000)),
        ([("encoding", "linear32"), ("sample_rate", "48000")], RawAudio("float32", 48_000)),
        (
            [("encoding", "linear16"), ("sample_rate", "8000"), ("channels", "2"), ("multichannel", "True")],
            RawAudio("pcm16", 8_000, 2, split_channels=True),
        ),
        ([("encoding", "linear16"), ("sample_rate", "192000")], RawAudio("pcm16", 192_000)),
        ([("encoding", "linear16"), ("sample_rate", "44100.0")], RawAudio("pcm16", 44_100)),
        ([("encoding", "opus"), ("sample_rate", "48000")], ContainerAudio()),
        ([("encoding", "ogg-opus")], ContainerAudio()),
        ([("encoding", "flac")], ContainerAudio()),
        ([("sample_rate", "16000")], ContainerAudio()),
    ],
)
def test_audio(query, audio):
    assert parse_options(query, live=True).audio == audio


def test_channels_of_a_container_are_mixed_and_said_to_be():
    options = parse_options([("multichannel", "true"), ("channels", "2")], live=True)
    assert (options.num_streams, warned(options)) == (1, ["multichannel"])


@pytest.mark.parametrize(
    ("value", "endpoints", "endpoint_ms"),
    [
        ("10", True, MIN_ENDPOINT_MS),
        ("0", True, MIN_ENDPOINT_MS),
        ("301", True, 301),
        ("10000", True, 10_000),
        ("true", True, None),
        ("", True, None),
        ("false", False, None),
        ("False", False, None),
    ],
)
def test_endpointing_has_a_floor_and_can_be_off(value, endpoints, endpoint_ms):
    options = parse_options([("endpointing", value)], live=True)
    assert (options.endpoints, options.endpoint_ms) == (endpoints, endpoint_ms)
    assert options.session_choices().min_silence_ms == endpoint_ms


@pytest.mark.parametrize(
    ("language", "code", "multilingual"),
    [("pt-BR", "pt", False), ("en-US", "en", False), ("zh-Hant", "zh", False), ("multi", None, True)],
)
def test_languages(language, code, multilingual):
    options = parse_options([("language", language)], live=True)
    assert (options.language, options.multilingual) == (code, multilingual)


def test_multi_detects_every_utterance_anew_whatever_the_default():
    choices = parse_options([("language", "multi")], live=True).session_choices()
    session = choices.session_options("s", SessionOptions("", language="pt"))
    assert (session.language, session.language_lock_s) == (None, None)


def test_detect_language_wins_over_the_servers_language():
    choices = parse_options([("detect_language", "true")], live=True).session_choices()
    assert choices.session_options("s", SessionOptions("", language="pt")).language is None


def test_languages_are_detected_among_those_named():
    query = [("detect_language", "en"), ("detect_language", "es")]
    options = parse_options(query, live=False)
    assert (options.detect_language, options.detect_among, warned(options)) == (True, ("en", "es"), [])
    session = options.session_choices().session_options("s", SessionOptions("", language="pt"))
    assert (session.language, session.languages) == (None, ("en", "es"))


def test_keyterms_and_keywords_are_hotwords():
    query = [("keyterm", "Sotto voce"), ("keyterm", "Ray"), ("keywords", "Kube:2.5"), ("keywords", "uh:-10")]
    options = parse_options([*query, ("keywords", "Ray"), ("keywords", "Serve:0")], live=True)
    assert options.hotwords == "Sotto voce, Ray, Kube:2.5"
    assert warned(options) == ["keywords"]


def test_boosts_are_bounded():
    options = parse_options([("keywords", "Kube:9"), ("keywords", "Ray: 0.5")], live=True)
    assert (options.hotwords, warned(options)) == ("Kube:3, Ray:0.5", ["keywords"])
    assert parse_keyterms(options.hotwords) == [Keyterm("Kube", 3.0), Keyterm("Ray", 0.5)]


@pytest.mark.parametrize("boost", ["two", "nan", "inf", "1e400", "\u0663", "1" * 17])
def test_a_boost_is_a_number(boost):
    with pytest.raises(InvalidMessage, match="is no number"):
        parse_options([("keywords", f"Kube:{boost}")], live=True)


def test_formatting_is_asked_of_the_session():
    choices = parse_options([("smart_format", "true"), ("numerals", "true")], live=True).session_choices()
    assert (choices.smart_format, choices.numerals) == (True, True)
    assert parse_options([("smart_format", "true")], live=True).text.punctuated
    assert SessionChoices().smart_format is None


def test_pairs():
    query = [("replace", "doctor:Dr."), ("replace", "uh:"), ("extra", "call:7:8"), ("tag", "a"), ("tag", "b")]
    options = parse_options([*query, ("search", "blood pressure")], live=True)
    assert options.text.replacements == (("doctor", "Dr."), ("uh", ""))
    assert options.text.queries == ("blood pressure",)
    assert (options.extra, options.tags) == ((("call", "7:8"),), ("a", "b"))


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("profanity_filter=true", "profanity_filter"),
        ("dictation=True", "dictation"),
        ("detect_entities=true", "detect_entities"),
        ("summarize=v2", "summarize"),
        ("alternatives=3", "alternatives"),
        ("version=2021-03-17.0", "version"),
        ("utterances=true", "utterances"),
        ("no_such_thing=1", "no_such_thing"),
        ("caf\x00é=1", "caf?é"),
    ],
)
def test_what_is_not_served_is_warned_about(query, parameter):
    name, _, value = query.partition("=")
    assert warned(parse_options([(name, value)], live=True)) == [parameter]


@pytest.mark.parametrize(
    "query",
    [
        [("diarize", "false")],
        [("diarize", "true"), ("diarize_version", "2025-01-01")],
        [("diarize_model", "v2")],
        [("profanity_filter", "False")],
        [("redact", "false")],
        [("alternatives", "1")],
        [("version", "latest")],
        [("mip_opt_out", "true")],
        [("no_delay", "true")],
    ],
)
def test_what_is_so_anyway_is_not(query):
    assert parse_options(query, live=True).warnings == ()


@pytest.mark.parametrize(
    ("query", "wanted"),
    [([], False), ([("diarize", "True")], True), ([("diarize", "false"), ("diarize_model", "latest")], True)],
)
def test_speakers_are_told_apart_where_that_is_asked_for_alone(query, wanted):
    choices = parse_options(query, live=True).session_choices()
    session = choices.session_options("s", SessionOptions("", speakers=SpeakerMode.VOICE))
    assert session.speakers is (SpeakerMode.VOICE if wanted else SpeakerMode.OFF)


def test_live_options_are_warned_about_for_recordings():
    options = parse_options([("endpointing", "300"), ("utterance_end_ms", "500")], live=False)
    assert warned(options) == ["endpointing", "utterance_end_ms"]
    assert options.utterance_end_ms is None


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ([("redact", "pci")], "redact"),
        ([("redact", "numbers"), ("redact", "ssn")], "redact"),
        ([("encoding", "g729")], "encoding"),
        ([("encoding", "linear16")], "sample_rate"),
        ([("encoding", "linear16"), ("sample_rate", "4000")], "sample_rate"),
        ([("channels", "0")], "channels"),
        ([("channels", "9")], "channels"),
        ([("punctuate", "perhaps")], "punctuate"),
        ([("punctuate", "true"), ("punctuate", "false")], "punctuate"),
        ([("endpointing", "soon")], "endpointing"),
        ([("endpointing", "-1")], "endpointing"),
        ([("endpointing", "60001")], "endpointing"),
        ([("endpointing", "٣٠٠")], "endpointing"),
        ([("utterance_end_ms", "999"), ("interim_results", "true")], "utterance_end_ms"),
        ([("utterance_end_ms", "1000")], "interim_results"),
        ([("replace", "doctor")], "replace"),
        ([("extra", ":x")], "extra"),
        ([("keyterm", "x" * 257)], "keyterm"),
        ([("keyterm", f"{n:250}") for n in range(41)], None),
        ([("keyterm", f"{n:0250}") for n in range(41)], "keyterm"),
        ([("keyterm", "x")] * 500, None),
        ([("keyterm", "x")] * 501, "keyterm"),
        ([("tag", "x")] * 101, "tag"),
        ([("model", "x" * 129)], "model"),
    ],
)
def test_what_is_refused(query, complaint):
    if complaint is None:
        parse_options(query, live=True)
        return
    with pytest.raises(InvalidMessage, match=complaint):
        parse_options(query, live=True)


def test_an_unknown_language_is_refused_by_name():
    with pytest.raises(UnsupportedLanguage, match="klingon"):
        parse_options([("language", "klingon")], live=True)


def test_warnings_are_bounded():
    assert len(parse_options([(f"p{n}", "1") for n in range(1_000)], live=True).warnings) == 32


NAMES = st.sampled_from([*(name for name, _ in LIVEKIT), "replace", "extra", "detect_language", "redact"])


@given(st.lists(st.tuples(NAMES | st.text(max_size=8), st.text(max_size=12))), st.booleans())
def test_any_query_is_options_or_a_sotto_error(query, live):
    with suppress(SottoError):
        options = parse_options(query, live=live)
        with suppress(SottoError):
            options.session_choices().session_options("s", SessionOptions(""))


def test_a_callback_is_for_recordings():
    query = [("callback", "https://a.example/hook"), ("callback_method", "PUT")]
    options = parse_options(query, live=False)
    assert (options.callback, options.callback_method) == ("https://a.example/hook", "PUT")
    assert parse_options([("callback", "false")], live=False).callback == ""
    with pytest.raises(InvalidMessage, match="callback"):
        parse_options(query, live=True)
    with pytest.raises(InvalidMessage, match="callback_method"):
        parse_options([*query, ("callback_method", "patch")], live=False)
