import pytest

from fakes.on_the_wire import written
from serve_app.core.jobs import Word
from serve_app.protocols.deepgram import wording
from serve_app.protocols.deepgram.options import TextOptions
from serve_app.protocols.deepgram.wording import (
    mean_probability,
    probability,
    replace_words,
    timed_words,
    transcript_of,
)

search_records, word_records = written(wording.search_records), written(wording.word_records)

WORDS = (
    Word(" Olá,", 0.0, 0.4, 0.99),
    Word(" Doctor", 0.5, 0.8, 0.9),
    Word(" Smith...", 0.8, 1.2, 0.8),
    Word(" —", 1.2, 1.3, 0.1),
    Word(" 50%?", 1.3, 1.6, 0.7),
)


def texts(words):
    return [word.word for word in words]


def test_a_transcript_has_its_marks_only_where_they_are_asked_for():
    assert transcript_of(WORDS, punctuated=True) == "Olá, Doctor Smith... — 50%?"
    assert transcript_of(WORDS, punctuated=False) == "olá doctor smith 50%"


def test_languages_without_spaces_stay_without():
    words = (Word("今日は", 0, 1, 1), Word("元気。", 1, 2, 1))
    assert transcript_of(words, punctuated=False) == "今日は元気"


def test_words_are_small_and_bare_beside_how_they_are_written():
    records = word_records(WORDS, TextOptions(punctuated=True))
    assert [record["word"] for record in records] == ["olá", "doctor", "smith", "50%"]
    assert [record["punctuated_word"] for record in records] == ["Olá,", "Doctor", "Smith...", "50%?"]
    assert records[0] == {
        "word": "olá", "start": 0.0, "end": 0.4, "confidence": 0.99, "punctuated_word": "Olá,"
    }  # fmt: skip
    assert word_records(WORDS, TextOptions(), "pt")[0] == {
        "word": "olá", "start": 0.0, "end": 0.4, "confidence": 0.99, "language": "pt"
    }  # fmt: skip


def test_words_without_times_share_that_of_their_text():
    words = timed_words((), "a bcd", 1.0, 3.0, 0.5)
    assert words == (Word(" a", 1.0, 1.5, 0.5), Word(" bcd", 1.5, 3.0, 0.5))
    assert timed_words(WORDS, "other", 0, 1, 0.5, 3) == WORDS
    assert [word.speaker for word in timed_words((), "a b", 0, 1, 0.5, 3)] == [3, 3]
    assert timed_words((), "  ", 0, 1, 0.5) == ()


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        (("doctor smith", "Dr. S"), [" Olá,", " Dr. S...", " —", " 50%?"]),
        (("olá", "Oi"), [" Oi,", " Doctor", " Smith...", " —", " 50%?"]),
        (("OLÁ", ""), [" Doctor", " Smith...", " —", " 50%?"]),
        (("doctor jones", "x"), texts(WORDS)),
        (("smith 50%", "x"), texts(WORDS)),
        (("50%", "half"), [" Olá,", " Doctor", " Smith...", " —", " half?"]),
        ((" ", "x"), texts(WORDS)),
    ],
)
def test_replacements(replacement, expected):
    assert texts(replace_words(WORDS, [replacement])) == expected


def test_a_replaced_phrase_is_one_word_with_the_time_of_all():
    (word,) = replace_words(WORDS[1:3], [("doctor smith", "S")])
    assert (word.start_s, word.end_s, word.probability) == (0.5, 1.2, pytest.approx(0.85))


def test_replacements_go_one_after_another():
    assert texts(replace_words(WORDS[:1], [("olá", "oi"), ("oi", "hi")])) == [" hi,"]


def test_search_finds_phrases_word_for_word():
    (found, missed, empty) = search_records(WORDS, ["Doctor SMITH", "doctor who", " "])
    assert found["hits"] == [
        {"confidence": pytest.approx(0.85), "start": 0.5, "end": 1.2, "snippet": "doctor smith"}
    ]
    assert (missed["hits"], empty["hits"]) == ([], [])


def test_hits_are_bounded():
    (record,) = search_records([Word(" a", 0, 1, 1)] * 500, ["a"])
    assert len(record["hits"]) == 100


def test_the_mean_counts_words_only():
    assert mean_probability(WORDS) == pytest.approx((0.99 + 0.9 + 0.8 + 0.7) / 4, abs=1e-4)
    assert mean_probability(()) == 0.0


@pytest.mark.parametrize(("value", "sent"), [(1.2, 1.0), (-1.0, 0.0), (float("nan"), 0.0), (0.98765, 0.9877)])
def test_probabilities_are_ones(value, sent):
    assert probability(value) == sent
