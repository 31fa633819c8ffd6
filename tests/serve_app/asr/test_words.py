"""Tokens to words, and their times: by hand-made alignments."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.words import TokenGroup, group_tokens, time_words

PIECES = [" Good", " mor", "ning", ",", ' "', "doctor", ".", '"', " Zo", "ë", "先", "生"]
BYTES = [piece.encode() for piece in PIECES[:9]] + [
    "ë".encode()[:1],
    "ë".encode()[1:],
    "先".encode(),
    "生".encode(),
]


def decode(ids: Sequence[int]) -> str:
    return b"".join(BYTES[i] for i in ids).decode(errors="replace")


def texts(groups: Sequence[TokenGroup]) -> list[str]:
    return [group.text for group in groups]


def test_words_begin_with_a_space_and_punctuation_stands_alone() -> None:
    groups = group_tokens([0, 1, 2, 3, 0, 6], decode, "en")
    assert texts(groups) == [" Good", " morning", ",", " Good", "."]
    assert [(group.first, group.last) for group in groups] == [(0, 1), (1, 3), (3, 4), (4, 5), (5, 6)]


def test_a_character_cut_in_two_tokens_stays_whole() -> None:
    assert texts(group_tokens([8, 9, 10], decode, "en")) == [" Zoë"]


def test_tokens_that_spell_no_character_are_not_lost() -> None:
    groups = group_tokens([8, 9], decode, "en")
    assert texts(groups) == [" Zo\ufffd"]
    assert groups[-1].last == 2


def test_languages_without_spaces_split_by_character() -> None:
    assert texts(group_tokens([11, 12], decode, "ja")) == ["先", "生"]


def path(starts: Sequence[int]) -> list[tuple[int, int]]:
    return [(token, state) for token, state in enumerate(starts)]


def test_punctuation_joins_its_word_and_leaves_its_time() -> None:
    groups = group_tokens([0, 1, 2, 3, 4, 5, 6, 7], decode, "en")
    words = time_words(groups, path([0, 10, 15, 25, 30, 32, 50, 52, 55]), [0.5] * 8, 2.0)
    assert [word.word for word in words] == [" Good", " morning,", ' "doctor."']
    assert [(word.start_s, word.end_s) for word in words] == [(0.0, 0.2), (0.2, 0.5), (0.6, 1.0)]


def test_probability_is_the_mean_over_the_tokens_of_a_word() -> None:
    groups = group_tokens([0, 1, 2], decode, "en")
    words = time_words(groups, path([0, 10, 15, 25]), [1.0, 0.2, 0.4], 2.0)
    assert [word.probability for word in words] == pytest.approx([1.0, 0.3])


def test_a_word_behind_a_full_stop_does_not_take_the_pause() -> None:
    groups = group_tokens([0, 6, 0], decode, "en")
    words = time_words(groups, path([0, 20, 25, 200]), [0.9] * 3, 5.0)
    assert words[1].end_s == 4.0
    assert words[1].start_s >= 3.0


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([" (", " doctor", ")"], [" ( doctor)"]),
        ([" and", " ("], [" and", " ("]),
        ([" ("], [" ("]),
        ([" ", " well", " "], [" well"]),
        (["(", "doctor"], ["(", "doctor"]),
    ],
)
def test_marks_without_a_word_are_kept(pieces: list[str], expected: list[str]) -> None:
    groups = [TokenGroup(piece, i, i + 1) for i, piece in enumerate(pieces)]
    words = time_words(groups, path(range(len(pieces) + 1)), [0.5] * len(pieces), 1.0)
    assert [word.word for word in words] == expected


def test_no_path_gives_no_words() -> None:
    assert time_words(group_tokens([0], decode, "en"), [], [0.9], 1.0) == ()


@given(
    st.lists(st.integers(0, len(BYTES) - 1), min_size=1, max_size=12).flatmap(
        lambda ids: st.tuples(
            st.just(ids), st.lists(st.integers(0, 400), min_size=len(ids) + 1, max_size=len(ids) + 1)
        )
    ),
    st.floats(0.02, 6.0),
)
def test_times_are_in_order_and_in_range_whatever_the_alignment(
    case: tuple[list[int], list[int]], duration_s: float
) -> None:
    ids, states = case
    words = time_words(group_tokens(ids, decode, "en"), path(states), [0.5] * len(ids), duration_s)
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert all(0 <= time <= duration_s + 0.001 for time in times)
    assert "".join(word.word for word in words) == decode(ids)
