"""Words and turns joined: who said what in a recording.

A word belongs to the speaker who holds most of it, one between turns to the nearest turn. The turns are the
exclusive ones, so that a word has one speaker where two talk at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from serve_app.asr.jobs import Word
from serve_app.speakers.turns import Turn


class TurnIndex:
    """Exclusive turns, in order, that can be asked who holds a stretch."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = tuple(turns)
        self._ends_s = [turn.end_s for turn in self._turns]

    def speaker_of(self, start_s: float, end_s: float) -> int | None:
        """Who holds most of `[start_s, end_s)`, or is nearest to it; None where there are no turns."""
        if not self._turns:
            return None
        held: dict[int, float] = {}
        first = bisect_left(self._ends_s, start_s)
        for turn in self._turns[first:]:
            if turn.start_s >= end_s:
                break
            shared_s = min(end_s, turn.end_s) - max(start_s, turn.start_s)
            held[turn.speaker] = held.get(turn.speaker, 0.0) + shared_s
        held = {speaker: seconds for speaker, seconds in held.items() if seconds > 0}
        if held:
            return max(held, key=lambda speaker: held[speaker])
        near = self._turns[max(0, first - 1) : first + 1]
        return min(near, key=lambda turn: max(turn.start_s - end_s, start_s - turn.end_s)).speaker


def label_words(words: Sequence[Word], turns: TurnIndex) -> tuple[Word, ...]:
    """The words, each with its speaker."""
    return tuple(replace(word, speaker=turns.speaker_of(word.start_s, word.end_s)) for word in words)


def runs(words: Sequence[Word]) -> list[tuple[Word, ...]]:
    """The words cut where another speaker begins."""
    return [tuple(run) for _, run in groupby(words, lambda word: word.speaker)]
