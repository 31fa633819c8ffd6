import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes.fake_service import HELLO, TWO_VOICES
from fakes.on_the_wire import assert_same_json, written
from serve_app.core.errors import (
    InferenceError,
    InternalError,
    InvalidMessage,
    ModelUnavailable,
    PayloadTooLarge,
    QueueFull,
    UnsupportedFormat,
)
from serve_app.core.jobs import Word
from serve_app.protocols.deepgram import recorded
from serve_app.protocols.deepgram.options import OptionWarning, parse_options
from serve_app.protocols.deepgram.recorded import RequestFacts
from serve_app.service.contract import RecordingSegment

listen_body, error_body = written(recorded.listen_body), written(recorded.error_body)
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "deepgram_recorded.json").read_text())
FACTS = RequestFacts(
    "0f3c8a52-7e4b-4f0e-9d52-3a1f5a6d7c11",
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    datetime(2026, 5, 5, 18, 27, 2, 834_000, tzinfo=UTC),
)
MONO = {
    "smart_format": "true",
    "utterances": "true",
    "utt_split": "0.25",
    "search": "general kenobi",
    "sentiment": "true",
    "tag": "ward-3",
    "extra": "visit:12",
}
TWO_CHANNELS = {
    "encoding": "linear16",
    "sample_rate": "16000",
    "channels": "2",
    "multichannel": "true",
    "utterances": "true",
    "language": "multi",
}
LATER = replace(
    HELLO,
    text="Hi.",
    segments=(RecordingSegment(0.4, 0.9, "Hi.", -0.2, 0.1, (), 0.8),),
    language="pt",
    language_probability=0.9,
)


def body_of(transcripts=(HELLO,), warnings=(), **query):
    return listen_body(transcripts, parse_options(query.items(), live=False), FACTS, warnings)


def bodies():
    return {
        "plain": body_of(),
        "mono": body_of(
            **MONO, warnings=[OptionWarning("body", "the data is damaged after 2.0 s", "damaged_audio")]
        ),
        "two_channels": body_of((HELLO, LATER), **TWO_CHANNELS),
        "speakers": body_of(
            (TWO_VOICES,), diarize="true", utterances="true", paragraphs="true", utt_split="9"
        ),
        "error": error_body(InvalidMessage("redact: text cannot be redacted here"), FACTS.request_id),
    }


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_every_body_is_the_golden_one(name):
    assert_same_json(bodies()[name], GOLDEN[name])


def test_every_body_has_a_golden_one():
    assert bodies().keys() == GOLDEN.keys()


def test_a_paragraph_names_its_speaker_where_another_begins():
    first, second = TWO_VOICES.segments
    said = replace(TWO_VOICES, segments=(first, replace(first, start_s=8.0, end_s=9.0, words=()), second))
    paragraphs = alternative_of(body_of((said,), diarize="true", paragraphs="true"))["paragraphs"]
    assert [paragraph["speaker"] for paragraph in paragraphs["paragraphs"]] == [0, 0, 1]
    assert paragraphs["transcript"] == (
        "\nSpeaker 0: Hello there.\n\nHello there.\n\nSpeaker 1: General Kenobi."
    )


def test_words_without_times_have_the_speaker_of_their_segment():
    segments = tuple(replace(segment, words=()) for segment in TWO_VOICES.segments)
    words = alternative_of(body_of((replace(TWO_VOICES, segments=segments),)))["words"]
    assert [word["speaker"] for word in words] == [0, 0, 1, 1]


def test_replaced_words_keep_their_speaker():
    words = alternative_of(body_of((TWO_VOICES,), replace="general kenobi:him"))["words"]
    assert [(word["word"], word["speaker"]) for word in words] == [("hello", 0), ("there", 0), ("him", 1)]


def alternative_of(body):
    return body["results"]["channels"][0]["alternatives"][0]


def test_the_transcript_has_marks_where_they_were_asked_for():
    assert alternative_of(body_of())["transcript"] == "hello there general kenobi"
    marked = alternative_of(body_of(punctuate="true"))
    assert marked["transcript"] == "Hello there. General Kenobi."
    assert "paragraphs" not in marked


def test_a_fixed_language_is_not_a_detected_one():
    assert "detected_language" not in body_of(language="en")["results"]["channels"][0]
    channel = body_of(language="multi")["results"]["channels"][0]
    assert (channel["detected_language"], channel["language_confidence"]) == ("en", 0.987)
    assert alternative_of(body_of(language="multi"))["languages"] == ["en"]


def test_a_segment_without_a_space_begins_a_word_of_its_own():
    parts = tuple(replace(part, words=(Word(part.text.strip(), 0, 1, 1),)) for part in HELLO.segments)
    body = body_of((replace(HELLO, segments=parts),), punctuate="true")
    assert alternative_of(body)["transcript"] == "Hello there. General Kenobi."


def test_silence_has_an_empty_transcript():
    silent = replace(HELLO, text="", segments=(), language="")
    body = body_of((silent,), smart_format="true", utterances="true", search="x")
    assert alternative_of(body)["words"] == []
    assert alternative_of(body)["paragraphs"] == {"transcript": "\n", "paragraphs": []}
    assert body["results"]["utterances"] == []
    assert "detected_language" not in body["results"]["channels"][0]


def test_paragraphs_end_at_a_long_pause_and_after_five_sentences():
    words = tuple(Word(f" Word{n}.", n, n + 0.5, 0.9) for n in range(7))
    words += (Word(" Later", 20.0, 20.5, 0.9),)
    segments = (RecordingSegment(0, 20.5, "", -0.1, 0.0, words),)
    paragraphs = alternative_of(body_of((replace(HELLO, segments=segments),), paragraphs="true"))[
        "paragraphs"
    ]
    assert [part["num_words"] for part in paragraphs["paragraphs"]] == [5, 2, 1]
    assert paragraphs["transcript"] == "\nWord0. Word1. Word2. Word3. Word4.\n\nWord5. Word6.\n\nLater"
    assert paragraphs["paragraphs"][2]["sentences"] == [{"text": "Later", "start": 20.0, "end": 20.5}]


def test_utterances_are_split_at_pauses_and_have_ids_of_their_own():
    utterances = body_of(utterances="true", utt_split="0.2")["results"]["utterances"]
    assert [part["transcript"] for part in utterances] == ["hello there", "general kenobi"]
    assert len({part["id"] for part in utterances}) == 2
    (whole,) = body_of(utterances="true")["results"]["utterances"]
    assert (whole["start"], whole["end"]) == (0.0, 1.9)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidMessage("x"), "Bad Request"),
        (UnsupportedFormat("x"), "Bad Request"),
        (PayloadTooLarge("x"), "PAYLOAD_TOO_LARGE"),
        (QueueFull("x"), "SERVICE_UNAVAILABLE"),
        (ModelUnavailable("x"), "SERVICE_UNAVAILABLE"),
        (InferenceError("x"), "INTERNAL_SERVER_ERROR"),
        (InternalError("x"), "INTERNAL_SERVER_ERROR"),
    ],
)
def test_errors(error, code):
    assert error_body(error, "r") == {"err_code": code, "err_msg": "x", "request_id": "r"}
