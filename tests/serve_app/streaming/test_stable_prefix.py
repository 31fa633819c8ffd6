"""Interim text: tables of what is joined and kept, and the promise that stable text never changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.streaming.stable_prefix import StablePrefix, comparable_form, split_units


def play(*hypotheses: tuple[str, int, int]) -> list[tuple[str, str]]:
    """(text, window start, window end) of one utterance from 0 -> (stable, rest) per interim."""
    prefix = StablePrefix()
    out = []
    for text, start, end in hypotheses:
        stable = prefix.update(text, window_start=start, window_end=end, utterance_start=0)
        out.append((stable.text[: stable.stable_chars], stable.text[stable.stable_chars :]))
    return out


@pytest.mark.parametrize(
    ("hypotheses", "expected"),
    [
        ([("Good", 0, 1)], [("", "Good")]),
        ([("Good", 0, 1), ("Good morning", 0, 2)], [("", "Good"), ("Good", " morning")]),
        ([("Good", 0, 1), ("Good", 0, 2)], [("", "Good"), ("", "Good")]),
        (
            [("Good mourning", 0, 1), ("Good morning please", 0, 2), ("Good morning please have", 0, 3)],
            [("", "Good mourning"), ("Good", " morning please"), ("Good morning please", " have")],
        ),
        (  # a stable word is kept though the model changes its mind
            [("I would like", 0, 1), ("I would like to", 0, 2), ("I could like to move", 0, 3)],
            [("", "I would like"), ("I would like", " to"), ("I would like to", " move")],
        ),
        (  # the window slides: its tail is joined where it overlaps
            [
                ("one two three four", 0, 4),
                ("one two three four five", 0, 5),
                ("three four five six", 2, 6),
            ],
            [
                ("", "one two three four"),
                ("one two three four", " five"),
                ("one two three four five", " six"),
            ],
        ),
        (  # a word cut in two at the window's start is not doubled
            [("one two three four", 0, 4), ("wo three four five", 1, 5)],
            [("", "one two three four"), ("one two three four", " five")],
        ),
        ([("我要", 0, 1), ("我要改约", 0, 2)], [("", "我要"), ("我要", "改约")]),
        ([("", 0, 1), ("Good morning", 0, 2)], [("", ""), ("", "Good morning")]),
    ],
)
def test_tables(hypotheses: list[tuple[str, int, int]], expected: list[tuple[str, str]]) -> None:
    assert play(*hypotheses) == expected


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d,", "E", "f.", "我", "们"]), max_size=9).map(" ".join)


@given(st.lists(st.tuples(WORDS, st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=12))
def test_stable_text_never_changes_or_shrinks(windows: list[tuple[str, int, int]]) -> None:
    prefix, before, end = StablePrefix(), "", 0
    for text, back, step in windows:
        end += step
        stable = prefix.update(text, window_start=max(0, end - back), window_end=end, utterance_start=0)
        assert stable.text.startswith(before)
        assert stable.stable_chars >= len(before)
        assert stable.text == stable.text.strip()
        before = stable.text[: stable.stable_chars]


@given(st.text(max_size=60))
def test_units_rebuild_the_text(text: str) -> None:
    assert "".join(split_units(text)).strip() == text.strip()


def test_spoken_form_ignores_case_and_punctuation() -> None:
    assert comparable_form(" Olá,") == "olá"
    assert comparable_form(" — ") == ""
