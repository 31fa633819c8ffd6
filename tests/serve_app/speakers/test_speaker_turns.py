"""A word belongs to whoever holds most of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.core.jobs import Word
from serve_app.speakers.ports import frames_away, runs_of
from serve_app.speakers.turns import (
    MAX_SPEAKERS,
    SpeakerCounts,
    Turn,
    TurnIndex,
    known_label,
    label_words,
    openai_label,
    runs,
    speaker_label,
)

TURNS = (Turn(1.0, 2.0, 0), Turn(2.2, 3.0, 1), Turn(6.0, 7.0, 0))


@pytest.mark.parametrize(
    ("start_s", "end_s", "speaker"),
    [
        (1.1, 1.4, 0),
        (1.9, 2.3, 0),  # a tie goes to the first
        (1.95, 2.5, 1),
        (2.05, 2.10, 0),  # between two turns: the nearer one
        (2.12, 2.18, 1),
        (0.0, 0.5, 0),
        (4.0, 4.4, 1),
        (5.0, 5.4, 0),
        (9.0, 9.5, 0),
        (0.0, 10.0, 0),  # two turns of one speaker count together
        (2.5, 2.5, 1),
    ],
)
def test_who_holds_a_word(start_s: float, end_s: float, speaker: int) -> None:
    assert TurnIndex(TURNS).speaker_of(start_s, end_s) == speaker


def test_nobody_holds_a_word_where_nobody_speaks() -> None:
    assert TurnIndex(()).speaker_of(0.0, 1.0) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 5)), min_size=1, max_size=30), st.floats(0, 120))
def test_it_is_what_looking_at_every_turn_says(spans: list[tuple[float, float]], start_s: float) -> None:
    turns, at_s = [], 0.0
    for index, (gap_s, length_s) in enumerate(spans):
        turns.append(Turn(at_s + gap_s / 50, at_s + gap_s / 50 + length_s, index % 3))
        at_s = turns[-1].end_s
    held: dict[int, float] = {}
    for turn in turns:
        shared = min(start_s + 0.4, turn.end_s) - max(start_s, turn.start_s)
        held[turn.speaker] = held.get(turn.speaker, 0.0) + max(0.0, shared)
    found = TurnIndex(turns).speaker_of(start_s, start_s + 0.4)
    if max(held.values()) > 0:
        assert held[found or 0] == max(held.values())
    else:
        nearest = min(turns, key=lambda turn: max(turn.start_s - start_s - 0.4, start_s - turn.end_s))
        assert found == nearest.speaker


def test_words_are_cut_where_another_speaker_begins() -> None:
    words = [Word(f" w{index}", index * 1.0, index + 0.5, 0.9) for index in range(1, 8)]
    labelled = label_words(words, TurnIndex(TURNS))
    assert [[word.word for word in run] for run in runs(labelled)] == [
        [" w1"],
        [" w2", " w3", " w4"],
        [" w5", " w6", " w7"],
    ]
    assert runs(()) == []


@pytest.mark.parametrize(
    "counts", [{"exact": 0}, {"least": 3, "most": 2}, {"most": MAX_SPEAKERS + 1}, {"least": -1}]
)
def test_counts_that_cannot_be_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        SpeakerCounts(**counts)


def test_labels_count_from_one_with_two_digits():
    assert [speaker_label(index) for index in (0, 8, 9, 99)] == [
        "SPEAKER_01",
        "SPEAKER_09",
        "SPEAKER_10",
        "SPEAKER_100",
    ]
    assert known_label(0) == "SPEAKER_01"
    assert known_label(None) is None


def test_letters_go_on_behind_z():
    assert [openai_label(index) for index in (0, 1, 25, 26, 27, 51, 52, 701, 702)] == [
        "A", "B", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA",
    ]  # fmt: skip
    assert len({openai_label(index) for index in range(1_000)}) == 1_000


@given(st.lists(st.booleans(), max_size=40))
def test_runs_hold_every_frame_that_is_active_and_never_touch(active: list[bool]) -> None:
    runs = runs_of(np.array(active, np.bool_))
    assert [frame for run in runs for frame in range(*run)] == [
        frame for frame, is_active in enumerate(active) if is_active
    ]
    assert all(one[1] < other[0] for one, other in zip(runs, runs[1:], strict=False))


def test_how_far_frames_are_from_runs() -> None:
    away = frames_away(np.array([0, 2, 4, 5, 9]), [(2, 5), (7, 8)])
    assert away.tolist() == [[2, 7], [0, 5], [0, 3], [1, 2], [5, 2]]
