import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes.fake_service import HELLO, TWO_VOICES
from fakes.on_the_wire import written
from serve_app.core.errors import InvalidMessage, SottoError, UnsupportedLanguage
from serve_app.core.jobs import Task
from serve_app.protocols.native import transcribe
from serve_app.protocols.native.transcribe import (
    ProcessingTime,
    ResponseFormat,
    UploadChoices,
    upload_choices,
)
from serve_app.service.contract import RecordingOptions, RecordingTranscript

GOLDEN = Path(__file__).parents[2] / "golden" / "transcribe.json"
WITH_SPEAKERS = GOLDEN.with_name("transcribe_speakers.json")
AT = datetime(2026, 2, 2, 12, 30, 45, 123456, tzinfo=UTC)
TIME = ProcessingTime(preprocess_s=0.0123, transcribe_s=0.5, total_s=0.53)
transcript_body = written(transcribe.transcript_body)


def test_the_body_is_the_golden_one():
    body = transcript_body(HELLO, TIME, AT)
    assert body == json.loads(GOLDEN.read_text())
    assert list(body) == list(json.loads(GOLDEN.read_text()))


def test_the_body_with_speakers_is_the_golden_one():
    body = transcript_body(TWO_VOICES, TIME, AT, include_words=True)
    assert body == json.loads(WITH_SPEAKERS.read_text())
    assert list(body) == list(json.loads(WITH_SPEAKERS.read_text()))


def test_somebody_unknown_is_null():
    silent = replace(TWO_VOICES, num_speakers=0, segments=(replace(HELLO.segments[0], speaker=None),))
    body = transcript_body(silent, TIME, AT)
    assert (body["speakers"], body["num_speakers"], body["segments"][0]["speaker"]) == ([], 0, None)


def test_words_and_a_warning_come_behind_it_when_there_are_any():
    body = transcript_body(HELLO, TIME, AT, include_words=True, warning="cut short")
    assert body["words"] == [
        {"word": "Hello", "start": 0.0, "end": 0.4, "probability": 0.99},
        {"word": "there", "start": 0.5, "end": 0.9, "probability": 0.98},
        {"word": "General", "start": 1.2, "end": 1.5, "probability": 0.97},
        {"word": "Kenobi", "start": 1.5, "end": 1.9, "probability": 0.96},
    ]
    assert body["warning"] == "cut short"


def test_silence_has_a_body_too():
    silent = RecordingTranscript("", (), "en", float("nan"), 0.0, "base", 0.0)
    body = transcript_body(silent, TIME, AT)
    assert (body["transcript"], body["segments"], body["real_time_factor"]) == ("", [], 0.0)
    assert body["confidence"] is None
    json.dumps(body, allow_nan=False)


def test_choices_come_from_text_parameters():
    choices = upload_choices(
        [
            ("language", "pt-BR"),
            ("response_format", "json"),
            ("word_timestamps", "true"),
            ("vad_filter", "false"),
            ("task", "translate"),
            ("prompt", "Dr. Silva"),
            ("temperature", "0"),
        ]
    )
    assert choices.recording_options(RecordingOptions()) == RecordingOptions(
        language="pt", task=Task.TRANSLATE, word_timestamps=True, vad_filter=False, prompt="Dr. Silva"
    )


def test_what_is_not_given_is_the_servers():
    defaults = RecordingOptions(language="de", vad_filter=False, prompt="p", task=Task.TRANSLATE)
    assert UploadChoices().recording_options(defaults) == defaults
    assert upload_choices([("language", "auto")]).recording_options(defaults).language is None


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_subtitles_want_word_times(name):
    choices = upload_choices([("response_format", name)])
    assert choices.response_format is ResponseFormat(name)
    assert choices.recording_options(RecordingOptions()).word_timestamps


@pytest.mark.parametrize(
    ("name", "value"), [("response_format", "pdf"), ("word_timestamps", "perhaps"), ("task", "sing")]
)
def test_bad_choices_are_refused_by_name(name, value):
    with pytest.raises(InvalidMessage, match=name):
        upload_choices([(name, value)])


def test_an_unknown_language_is_refused():
    with pytest.raises(UnsupportedLanguage) as refused:
        upload_choices([("language", "klingon")]).recording_options(RecordingOptions())
    assert isinstance(refused.value, SottoError)
