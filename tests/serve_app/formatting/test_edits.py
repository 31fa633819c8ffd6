from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.core.jobs import Word
from serve_app.formatting.edits import Edit, edit_text, edit_words


def words_of(*texts: str) -> tuple[Word, ...]:
    return tuple(Word(text, index, index + 0.5, 1 / (index + 1)) for index, text in enumerate(texts))


def test_edits_of_a_text() -> None:
    edits = [Edit(0, 1, "J"), Edit(2, 2, "--"), Edit(3, 5, "")]
    assert edit_text("hello", edits) == "Je--l"
    assert edit_text("hello", []) == "hello"


def test_a_word_changed_inside_keeps_its_times() -> None:
    first, second = words_of(" i", " am")
    assert edit_words((first, second), [Edit(1, 2, "I")]) == (Word(" I", 0, 0.5, 1.0), second)


def test_words_under_one_edit_become_one() -> None:
    words = words_of(" a", " twenty", " three", " b")
    merged = edit_words(words, [Edit(3, 15, "23")])
    assert merged == (words[0], Word(" 23", 1, 2.5, pytest.approx((1 / 2 + 1 / 3) / 2)), words[3])


def test_what_comes_in_at_a_border_belongs_to_the_word_before() -> None:
    words = words_of(" yes", " no")
    assert [word.word for word in edit_words(words, [Edit(4, 4, "."), Edit(7, 7, "!")])] == [" yes.", " no!"]
    assert [word.word for word in edit_words(words, [Edit(0, 0, "-")])] == ["- yes", " no"]


def test_a_word_of_spaces_goes_into_the_next() -> None:
    words = words_of(" a", "  ", "b", " ")
    assert [word.word for word in edit_words(words, [Edit(2, 4, " ")])] == [" a", " b"]


def test_nothing_to_do() -> None:
    words = words_of(" a", " ")
    assert edit_words(words, []) is words
    assert edit_words((), [Edit(0, 0, "x")]) == ()


@given(
    st.lists(st.text("ab ", max_size=4), max_size=8),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.text("xy", max_size=3)), max_size=6),
)
def test_words_and_their_text_change_alike(texts: list[str], wishes: list[tuple[int, int, str]]) -> None:
    text = "".join(texts)
    edits: list[Edit] = []
    for start, length, new in sorted(wishes):
        at_least = edits[-1].end if edits else 0
        end = min(len(text), start + length)
        if at_least <= start <= end and not (edits and start == end == at_least):
            edits.append(Edit(start, end, new))
    words = words_of(*texts)
    changed = edit_words(words, edits)
    if words:
        assert "".join(word.word for word in changed).strip() == edit_text(text, edits).strip()
    times = [time for word in changed for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert len(changed) <= len(words)
