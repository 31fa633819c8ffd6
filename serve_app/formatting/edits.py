"""Changes to a text as data, so that a text and the words it is made of are changed alike."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import NamedTuple

from serve_app.core.jobs import Word


class Edit(NamedTuple):
    """Characters `[start, end)` become `text`; where `start == end`, `text` comes in there."""

    start: int
    end: int
    text: str


def edit_text(text: str, edits: Sequence[Edit]) -> str:
    """The changed text. Edits are in order and do not overlap."""
    pieces, done = [], 0
    for edit in edits:
        pieces += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*pieces, text[done:]])


def edit_words(words: tuple[Word, ...], edits: Sequence[Edit]) -> tuple[Word, ...]:
    """The same changes to words whose texts, joined, are the text that the edits are meant for.

    Words that one edit spans become one: first start, last end, mean probability. What comes in at a border
    belongs to the word before it.
    """
    if not edits or not words:
        return words
    borders = [0, *accumulate(len(word.word) for word in words)]
    touched = [_touched(borders, edit) for edit in edits]
    joined = {index for first, last in touched for index in range(first + 1, last + 1)}
    heads = [index for index in range(len(words)) if index not in joined]
    changed, done = [], 0
    for first, end in pairwise([*heads, len(words)]):
        mine = []
        while done < len(edits) and touched[done][1] < end:
            start, stop, text = edits[done]
            mine.append(Edit(start - borders[first], stop - borders[first], text))
            done += 1
        changed.append(_merged(words[first:end], mine))
    return _without_blanks(changed)


def _touched(borders: Sequence[int], edit: Edit) -> tuple[int, int]:
    """First and last index of the words that an edit changes."""
    num_words = len(borders) - 1
    if edit.start == edit.end:
        index = min(max(0, bisect_left(borders, edit.start) - 1), num_words - 1)
        return index, index
    return bisect_right(borders, edit.start) - 1, bisect_left(borders, edit.end) - 1


def _merged(words: Sequence[Word], edits: Sequence[Edit]) -> Word:
    if len(words) == 1 and not edits:
        return words[0]
    text = edit_text("".join(word.word for word in words), edits)
    probability = sum(word.probability for word in words) / len(words)
    return Word(text, words[0].start_s, words[-1].end_s, probability)


def _without_blanks(words: Sequence[Word]) -> tuple[Word, ...]:
    """A word of nothing but spaces is none; its spaces go to the next."""
    kept: list[Word] = []
    spaces = ""
    for word in words:
        if not word.word.strip():
            spaces += word.word
            continue
        kept.append(replace(word, word=spaces + word.word) if spaces else word)
        spaces = ""
    return tuple(kept)
