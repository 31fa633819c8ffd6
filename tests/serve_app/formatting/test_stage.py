from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.core.jobs import Word
from serve_app.formatting import FormattingOptions, format_text, format_words

ALL = FormattingOptions(casing=True, spacing=True, numerals=True, closing_stop=True)

SPOKEN = (
    [" i", " I'm", " one", " twenty", " three", " and", " hundred", " a", " percent", " dollars", " fifty"]
    + [" cents", " point", " oh", " double", " nineteen", " eighty", " first", " minus", " million", " over"]
    + [
        " pm",
        " seven",
        " eighties",
        " Hello",
        " dr.",
        " well,",
        "-five",
        ".",
        ",",
        " .",
        " ,",
        "  ",
        "",
        " (",
    ]
    + [" )", "?", " ?", "...", " é", "\n", "\u00a0!", " vingt", " pour", " cent", " dreiundzwanzig", " STOP"]
)

options_of = st.builds(
    FormattingOptions,
    casing=st.booleans(),
    spacing=st.booleans(),
    numerals=st.booleans(),
    closing_stop=st.booleans(),
    numerals_from=st.integers(0, 12),
)
languages = st.sampled_from(["en", "fr", "de", "es", "zh", "tr", "en-GB", ""])


def words_of(texts: list[str]) -> tuple[Word, ...]:
    return tuple(Word(text, index, index + 0.5, (index % 10) / 10) for index, text in enumerate(texts))


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(SPOKEN), max_size=25), languages, options_of, st.booleans())
def test_the_words_joined_are_the_text(
    texts: list[str], language: str, options: FormattingOptions, continues: bool
) -> None:
    words = words_of(texts)
    joined = "".join(texts)
    changed = format_words(words, language, options, continues=continues)
    wanted = format_text(joined, language, options, continues=continues)
    assert "".join(word.word for word in changed).strip() == wanted.strip()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(SPOKEN), max_size=25), languages, options_of)
def test_times_stay_in_order_and_within_the_words(
    texts: list[str], language: str, options: FormattingOptions
) -> None:
    words = words_of(texts)
    changed = format_words(words, language, options)
    times = [time for word in changed for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert set(times) <= {time for word in words for time in (word.start_s, word.end_s)}
    assert all(0 <= word.probability <= 1 for word in changed)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60), languages, options_of)
def test_any_text_at_all(text: str, language: str, options: FormattingOptions) -> None:
    got = format_text(text, language, options)
    assert len(got) <= 3 * len(text) + 3
    word = Word(text, 0.0, 1.0, 0.5)
    assert "".join(each.word for each in format_words((word,), language, options)).strip() == got.strip()


def test_merged_words_have_their_times_and_mean_probability() -> None:
    words = (
        Word(" about", 0.0, 0.4, 0.9),
        Word(" twenty", 0.5, 0.8, 0.8),
        Word(" three", 0.8, 1.1, 0.6),
        Word(" percent.", 1.1, 1.6, 0.7),
    )
    assert format_words(words, "en", ALL) == (
        Word(" About", 0.0, 0.4, 0.9),
        Word(" 23%.", 0.5, 1.6, pytest.approx(0.7)),
    )


def test_a_lone_mark_joins_the_word_before() -> None:
    words = words_of([" well", " ,", " i", " see"])
    assert [word.word for word in format_words(words, "en", ALL)] == [" Well,", " I", " see."]


def test_all_together() -> None:
    text = "i saw twenty three of them . no one  paid five dollars , i think"
    assert format_text(text, "en", ALL) == "I saw 23 of them. No one paid $5, I think."


def test_nothing_is_done_by_default() -> None:
    options = FormattingOptions()
    words = words_of([" i", " ,", " twenty"])
    assert not options.any
    assert format_text(" i , twenty ", "en", options) == " i , twenty "
    assert format_words(words, "en", options) is words


def test_a_negative_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="numerals_from: expected at least 0, got -1"):
        FormattingOptions(numerals_from=-1)
