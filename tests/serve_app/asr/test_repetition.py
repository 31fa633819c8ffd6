"""Loops are found and cut; what people really repeat stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.repetition import (
    compression_ratio,
    cut_loops,
    find_loop,
    split_pieces,
    without_loops,
)

PLAIN = "Some of these tablets bring on a dry cough, and I will change it."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no.",
        "No, no, no, no, no, no, that is wrong.",
        "It is very, very, very good.",
        "Bye bye. Bye bye. Bye bye.",
        "Can you hear me? Can you hear me? Can you hear me?",
        "Thank you. Thank you very much. Thank you.",
        "0 0 0",
        "The number is 0 0 4 9 0 0 0 0 0 0 0 0 0 0.",
        "555 555 555 0 1 9 8 8 8 8",
        "Ha, ha, ha, ha, ha.",
        "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz",
        PLAIN,
    ],
)
def test_what_people_repeat_is_no_loop(text: str) -> None:
    assert find_loop(split_pieces(text)) is None
    assert without_loops(text) == text


@pytest.mark.parametrize(
    "unit", ["Thank you so much.", "I'm not going to be able to do that.", "Yes.", "So what,"]
)
def test_a_loop_is_cut_to_its_first_round(unit: str) -> None:
    text = " ".join([PLAIN, *[unit] * 12])
    assert find_loop(split_pieces(text)) is not None
    assert without_loops(text) == f"{PLAIN} {unit}"
    assert without_loops(text, keep=2) == f"{PLAIN} {unit} {unit}"


def test_a_round_cut_short_by_the_token_limit_goes_too() -> None:
    text = "Well. " + "wait a moment, " * 9 + "wait a"
    assert without_loops(text) == "Well. wait a moment,"


def test_where_the_token_limit_struck_two_rounds_are_a_loop() -> None:
    text = "Well. The house is warm. The house is warm. The house"
    assert without_loops(text) == text
    assert without_loops(text, ran_on=True) == "Well. The house is warm."
    ended_otherwise = "The house is warm. The house is warm. Good."
    assert without_loops(ended_otherwise, ran_on=True) == ended_otherwise


def test_what_follows_a_loop_stays() -> None:
    text = "I said " + "that it is so and " * 6 + "then I went home"
    assert without_loops(text) == "I said that it is so and then I went home"


def test_two_loops_are_both_cut() -> None:
    text = "one two three " * 7 + "four five six " * 7
    assert without_loops(text) == "one two three four five six"


@pytest.mark.parametrize("unit", ["ご視聴ありがとうございました", "谢谢大家", "好"])
def test_writing_without_spaces(unit: str) -> None:
    text = "今日は" + unit * 30
    assert without_loops(text, spaced=False) == "今日は" + unit


def test_laughter_without_spaces_stays() -> None:
    text = "はははははははは、おもしろい"
    assert without_loops(text, spaced=False) == text


def test_one_endless_word() -> None:
    assert without_loops("W" + "o" * 80) == "Wo"


def test_the_words_of_an_alignment_are_cut_alike() -> None:
    words = [" Well,", *[" wait", " a", " moment."] * 8]
    assert cut_loops(words) == [0, 1, 2, 3]


def test_what_it_costs_is_bounded() -> None:
    assert find_loop([str(number) for number in range(50_000)] + ["x y"] * 100) is None


@given(st.lists(st.sampled_from(["a", "b", "wait", "no", "1", "."]), max_size=60))
def test_cutting_keeps_order_and_leaves_nothing_to_cut_twice(words: list[str]) -> None:
    kept = cut_loops(words)
    assert kept == sorted(set(kept))
    assert all(0 <= index < len(words) for index in kept)
    if find_loop(words) is None:
        assert kept == list(range(len(words)))
    else:
        assert len(kept) < len(words)


def test_loops_compress_and_speech_does_not() -> None:
    assert compression_ratio("") == 0.0
    assert compression_ratio(PLAIN) < 1.5
    assert compression_ratio("Wait a moment. " * 30) > 10
