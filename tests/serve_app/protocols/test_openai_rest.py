import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.fake_service import HELLO, TWO_VOICES
from fakes.on_the_wire import assert_same_json, on_the_wire, written
from serve_app.core.errors import (
    InferenceError,
    InvalidAudio,
    ModelUnavailable,
    PayloadTooLarge,
    QueueFull,
    SottoError,
    SpeakersUnavailable,
    UnsupportedFormat,
    UnsupportedLanguage,
)
from serve_app.core.jobs import ModelInfo, Task, Word
from serve_app.protocols.openai import answer, models
from serve_app.protocols.openai.answer import (
    MIN_LOGPROB,
    StreamedTranscript,
    logprob,
)
from serve_app.protocols.openai.errors import ModelNotFound, RefusedParameter, error_fields, error_status
from serve_app.protocols.openai.models import OPENAI_NAMES, hosted_model
from serve_app.protocols.openai.records import Error
from serve_app.protocols.openai.request import MAX_KEYWORDS, ServerVad, transcription_request
from serve_app.service.contract import RecordingOptions
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode
from serve_app.vad.options import EndpointingOptions

transcription_body, logprobs = written(answer.transcription_body), written(answer.logprobs)
model_list = written(models.model_list)
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "openai_rest.json").read_text())

BASE = ModelInfo("base", "final", "ctranslate2", "cpu", "int8", True, "/models/base")
TINY = ModelInfo("tiny.en", "interim", "ctranslate2", "cpu", "int8", False, "/models/tiny.en")

DEFAULTS = RecordingOptions(language="de", prompt="house style", hotwords="Sotto", vad_filter=False)


def asked(*fields, model="whisper-1"):
    return transcription_request([("model", model), *fields])[0]


def events_of(frames):
    return [json.loads(line.removeprefix(b"data: ")) for line in frames.split(b"\n\n") if line]


@pytest.mark.parametrize(
    ("name", "fields", "task"),
    [
        ("json", [], Task.TRANSCRIBE),
        ("json_logprobs", [("include[]", "logprobs")], Task.TRANSCRIBE),
        ("verbose_json", [("response_format", "verbose_json"), ("temperature", "0.2")], Task.TRANSCRIBE),
        (
            "verbose_json_words",
            [("response_format", "verbose_json"), ("timestamp_granularities[]", "word")],
            Task.TRANSCRIBE,
        ),
        ("translation", [], Task.TRANSLATE),
        ("translation_verbose", [("response_format", "verbose_json")], Task.TRANSLATE),
    ],
)
def test_bodies_are_the_golden_ones(name, fields, task):
    assert_same_json(transcription_body(HELLO, asked(*fields), task), GOLDEN[name])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("verbose_json_speakers", [("response_format", "verbose_json"), ("diarize", "true")]),
        ("diarized_json", [("response_format", "diarized_json")]),
    ],
)
def test_bodies_with_speakers_are_the_golden_ones(name, fields):
    assert_same_json(transcription_body(TWO_VOICES, asked(*fields), Task.TRANSCRIBE), GOLDEN[name])


def test_a_stream_with_speakers_is_the_golden_one():
    stream = StreamedTranscript(asked(("stream", "true"), ("response_format", "diarized_json")))
    frames = b"".join(stream.segment(segment) for segment in TWO_VOICES.segments) + stream.done(TWO_VOICES)
    assert_same_json(events_of(frames), GOLDEN["stream_diarized_json"])


def test_somebody_unknown_has_an_empty_name():
    (segment, _) = TWO_VOICES.segments
    unknown = replace(TWO_VOICES, segments=(replace(segment, speaker=None),))
    body = transcription_body(unknown, asked(("response_format", "diarized_json")), Task.TRANSCRIBE)
    assert body["segments"][0]["speaker"] == ""


DIARIZER = "gpt-4o-transcribe-diarize"


@pytest.mark.parametrize(
    ("fields", "model", "usual", "expected"),
    [
        ({"response_format": "diarized_json"}, "whisper-1", False, True),
        ({"response_format": "diarized_json", "diarize": "false"}, DIARIZER, False, True),
        ({}, DIARIZER, True, False),
        ({"diarize": "true"}, DIARIZER, True, False),
        ({"response_format": "text"}, DIARIZER, True, False),
        ({"response_format": "text", "diarize": "true"}, "whisper-1", False, True),
        ({"response_format": "srt"}, DIARIZER, False, True),
        ({"response_format": "vtt", "diarize": "false"}, DIARIZER, True, False),
        ({"response_format": "verbose_json"}, "whisper-1", False, False),
        ({"response_format": "verbose_json"}, "whisper-1", True, True),
        ({"response_format": "verbose_json", "diarize": "true"}, "whisper-1", False, True),
    ],
)
def test_speakers_are_asked_for_where_the_answer_names_them(fields, model, usual, expected):
    defaults = replace(DEFAULTS, speakers=SpeakerMode.VOICE if usual else SpeakerMode.OFF)
    options = asked(*fields.items(), model=model).recording_options(Task.TRANSCRIBE, None, defaults)
    assert options.speakers is (SpeakerMode.VOICE if expected else SpeakerMode.OFF)


def test_how_speakers_are_told_apart_reaches_the_options():
    request = asked(
        ("response_format", "diarized_json"), ("num_speakers", "2"), ("diarization_backend", "channel")
    )
    options = request.recording_options(Task.TRANSCRIBE, None, DEFAULTS)
    assert (options.speakers, options.speaker_counts) == (SpeakerMode.CHANNEL, SpeakerCounts(2))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("stream", []),
        ("stream_logprobs", [("include[]", "logprobs")]),
        ("stream_verbose_json", [("response_format", "verbose_json")]),
    ],
)
def test_streams_are_the_golden_ones(name, fields):
    stream = StreamedTranscript(asked(("stream", "true"), *fields))
    frames = b"".join(stream.segment(segment) for segment in HELLO.segments) + stream.done(HELLO)
    assert_same_json(events_of(frames), GOLDEN[name])


def test_a_stream_that_fails_ends_with_the_error():
    assert (
        events_of(StreamedTranscript(asked()).failed(InferenceError("model failed")))
        == GOLDEN["stream_failed"]
    )


@given(st.lists(st.text(min_size=1).filter(str.strip), max_size=6))
def test_deltas_put_together_are_the_text(texts):
    segments = tuple(replace(HELLO.segments[0], text=text, words=()) for text in texts)
    transcript = replace(HELLO, text=" ".join(text.strip() for text in texts), segments=segments)
    stream = StreamedTranscript(asked())
    deltas = [events_of(stream.segment(segment))[0]["delta"] for segment in segments]
    assert "".join(deltas).strip() == events_of(stream.done(transcript))[-1]["text"]


def test_models_are_the_golden_list():
    assert_same_json(model_list((TINY, BASE), 1_700_000_000), GOLDEN["models"])
    assert model_list((), 0) == {"object": "list", "data": []}


@pytest.mark.parametrize(
    "error",
    [
        InvalidAudio("not audio"),
        UnsupportedFormat("no such container"),
        UnsupportedLanguage("klingon"),
        PayloadTooLarge("too large"),
        QueueFull("busy"),
        InferenceError("model failed"),
        ModelNotFound("no such model"),
        RefusedParameter("bad", param="temperature", reason="invalid_value"),
        SpeakersUnavailable("speakers cannot be told apart here: make speakers"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_the_golden_ones(error):
    golden = GOLDEN["errors"][type(error).__name__]
    assert_same_json([error_status(error), on_the_wire(Error(error=error_fields(error)))], golden)


def test_every_choice_reaches_the_options():
    request, vad = transcription_request(
        [
            ("model", "whisper-1"),
            ("language", "pt-BR"),
            ("prompt", "Dr. Silva"),
            ("keywords[]", "dipirona"),
            ("keywords[]", "losartana"),
            ("hotwords", "Sotto"),
            ("temperature", "0.4"),
            ("vad_filter", "true"),
            ("chunking_strategy", '{"type":"server_vad","threshold":0.7,"silence_duration_ms":300}'),
        ]
    )
    options = request.recording_options(Task.TRANSLATE, vad, DEFAULTS)
    assert options == RecordingOptions(
        language="pt",
        task=Task.TRANSLATE,
        prompt="Dr. Silva",
        hotwords="Sotto, dipirona, losartana",
        temperature=0.4,
        vad_filter=True,
        endpointing=EndpointingOptions(threshold=0.7, min_silence_ms=300),
    )


def test_what_is_not_given_is_the_servers():
    assert asked().recording_options(Task.TRANSCRIBE, None, DEFAULTS) == DEFAULTS


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([("response_format", "srt")], True),
        ([("response_format", "vtt")], True),
        ([("include[]", "logprobs")], True),
        ([("response_format", "verbose_json"), ("timestamp_granularities[]", "word")], True),
        ([("response_format", "verbose_json")], False),
        ([("timestamp_granularities[]", "word")], False),
    ],
)
def test_words_are_timed_only_where_they_are_shown(fields, words):
    assert asked(*fields).recording_options(Task.TRANSCRIBE, None, DEFAULTS).word_timestamps is words


@pytest.mark.parametrize(
    ("languages", "code"), [(["pt"], "pt"), (["pt", "Portuguese"], "pt"), (["pt", "en"], None), ([], "de")]
)
def test_one_of_several_languages_is_detected(languages, code):
    request = asked(*(("languages[]", name) for name in languages))
    assert request.recording_options(Task.TRANSCRIBE, None, DEFAULTS).language == code


@pytest.mark.parametrize(
    "strategy",
    [
        [("chunking_strategy", '{"type": "server_vad", "prefix_padding_ms": 100}')],
        [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[prefix_padding_ms]", "100")],
    ],
)
def test_a_chunking_strategy_comes_as_json_or_in_parts(strategy):
    assert transcription_request([("model", "m"), *strategy])[1] == ServerVad(prefix_padding_ms=100)


@pytest.mark.parametrize("strategy", ["auto", '"auto"', "null", ""])
def test_automatic_chunking_is_the_servers(strategy):
    assert transcription_request([("model", "m"), ("chunking_strategy", strategy)])[1] is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([("response_format", "xml")], "response_format"),
        ([("known_speaker_names[]", "Agent")], "known_speaker_names"),
        ([("known_speaker_references[]", "data:audio/wav;base64,AAAA")], "known_speaker_references"),
        ([("num_speakers", "0")], "num_speakers"),
        ([("stream", "true"), ("response_format", "srt")], "response_format"),
        ([("temperature", "2")], "temperature"),
        ([("temperature", "warm")], "temperature"),
        ([("prompt", "x" * 4_001)], "prompt"),
        ([("timestamp_granularities[]", "syllable")], "timestamp_granularities"),
        ([("include[]", "everything")], "include"),
        ([("stream", "perhaps")], "stream"),
        ([("chunking_strategy", "sometimes")], "chunking_strategy"),
        ([("chunking_strategy", '{"type":"semantic_vad"}')], "chunking_strategy"),
        ([("chunking_strategy", "[" * 5_000)], "chunking_strategy"),
        (
            [("chunking_strategy[threshold]", "9"), ("chunking_strategy[type]", "server_vad")],
            "chunking_strategy",
        ),
        ([("keywords[]", "word")] * (MAX_KEYWORDS + 1), "keywords"),
        ([("language", "pt"), ("language", "en")], "language"),
        ([("model", "another")], "model"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(fields, param):
    with pytest.raises(RefusedParameter) as caught:
        asked(*fields)
    assert caught.value.param == param


def test_a_model_must_be_named():
    with pytest.raises(RefusedParameter, match="model parameter"):
        transcription_request([("language", "en")])


def test_too_many_hotwords_are_refused():
    request = asked(*(("keywords[]", "x" * 100) for _ in range(100)))
    with pytest.raises(RefusedParameter, match="10000 characters"):
        request.recording_options(Task.TRANSCRIBE, None, DEFAULTS)


@given(st.lists(st.tuples(st.sampled_from([*GOLDEN["fields"], "chunking_strategy[threshold]"]), st.text())))
def test_any_fields_are_served_or_refused(fields):
    with suppress(SottoError):
        request, vad = transcription_request(fields)
        request.recording_options(Task.TRANSCRIBE, vad, DEFAULTS)


@pytest.mark.parametrize(
    "name", [*OPENAI_NAMES, "base", "openai/whisper-base", "Systran/faster-whisper-base"]
)
def test_names_of_the_hosted_model(name):
    assert hosted_model(name, (TINY, BASE)) is BASE


@pytest.mark.parametrize("name", ["large-v3", "tiny.en", "gpt-4o", "", "x" * 5_000])
def test_another_model_is_refused_by_name(name):
    with pytest.raises(ModelNotFound, match="hosted: base") as caught:
        hosted_model(name, (TINY, BASE))
    assert len(str(caught.value)) < 300


def test_a_model_without_a_name_in_the_registry_answers_to_its_own():
    own = replace(BASE, name="clinic-finetune")
    assert hosted_model("clinic-finetune", (BASE, own)) is own


def test_no_model_yet():
    with pytest.raises(ModelUnavailable):
        hosted_model("whisper-1", (TINY,))


def test_logprobs_are_words_with_their_bytes():
    assert logprobs([Word(" Olá,", 0.0, 0.5, 0.5)]) == [
        {"token": " Olá,", "bytes": [32, 79, 108, 195, 161, 44], "logprob": -0.6931}
    ]
    assert logprob(1.2) == 0.0
    assert logprob(0.0) == logprob(float("nan")) == logprob(1e-30) == MIN_LOGPROB
