"""Loops: words that a decoder writes again and again behind one another and that were not said.

A loop is a unit of words (characters where writing has no spaces) repeated so often that people do not
speak so: "no, no, no", "very very", "can you hear me? can you hear me?" and a number full of zeros are none.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

MAX_UNIT_WORDS = 16
MAX_UNIT_CHARACTERS = 32
_MAX_WORD_CHARACTERS = 40
"""A longer word is searched letter by letter: "Wooooo..."; German compounds rarely are."""
_MAX_PIECES = 2_000
_MAX_LOOPS = 4
_MIN_CHARACTERS = 24
_MIN_NUMBERS = 24

_PIECE = re.compile(r"\s*\S+")
_NOT_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Loop:
    """Pieces `[start, end)` repeat the first `unit` of them; the last repetition may be cut short."""

    start: int
    unit: int
    end: int

    @property
    def repeats(self) -> int:
        return (self.end - self.start) // self.unit


def compression_ratio(text: str) -> float:
    """Bytes of UTF-8 over their bytes under zlib, as Whisper counts it (Radford et al. 2022, section 4.5)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def split_pieces(text: str, *, spaced: bool = True) -> list[str]:
    """Words with the space before them, characters where there are no spaces; joined they are the text."""
    if not spaced:
        return list(text)
    pieces: list[str] = []
    for word in _PIECE.findall(text):
        pieces.extend(word if len(word) > _MAX_WORD_CHARACTERS else [word])
    return pieces


def find_loop(pieces: Sequence[str], *, ran_on: bool = False) -> Loop | None:
    """The loop that covers most of the pieces (words, or characters), the shortest unit of it; None without.

    Case and punctuation do not count. Only the first 2,000 pieces are searched. `ran_on`: the token limit
    stopped the decoder, so that two rounds of three pieces or more at the very end are a loop already.
    """
    keys = [_NOT_WORD.sub("", piece).casefold() or piece.strip() for piece in pieces[:_MAX_PIECES]]
    best: Loop | None = None
    for unit in range(1, min(MAX_UNIT_CHARACTERS, len(keys) // 2) + 1):
        run = 0
        for at in range(len(keys) - unit + 1):
            if at + unit < len(keys) and keys[at] == keys[at + unit]:
                run += 1
                continue
            if run:
                loop = Loop(at - run, unit, at + unit)
                longer = best is None or loop.end - loop.start > best.end - best.start
                if longer and (_nobody_says(loop, keys) or (ran_on and _ran_on(loop, keys))):
                    best = loop
            run = 0
    return best


def _nobody_says(loop: Loop, keys: Sequence[str]) -> bool:
    unit = keys[loop.start : loop.start + loop.unit]
    covered = loop.end - loop.start
    if not any(unit):
        return False
    if all(key.isdecimal() for key in unit):
        return covered >= _MIN_NUMBERS
    if all(len(key) <= 1 for key in unit):
        return loop.repeats >= 4 and covered >= _MIN_CHARACTERS
    if loop.unit > MAX_UNIT_WORDS:
        return False
    if loop.unit <= 2:
        return loop.repeats >= (8 if loop.unit == 1 else 6)
    return loop.repeats >= (4 if loop.unit <= 8 else 3)


def _ran_on(loop: Loop, keys: Sequence[str]) -> bool:
    return loop.end == len(keys) and loop.unit >= 3 and loop.repeats >= 2


def cut_loops(pieces: Sequence[str], keep: int = 1, *, ran_on: bool = False) -> list[int]:
    """Indices of the pieces that stay once every loop is cut to its first `keep` repetitions.

    Works as well on the words of an alignment (their texts): words and text stay the same. At most four
    loops are cut.
    """
    kept = list(range(len(pieces)))
    for _ in range(_MAX_LOOPS):
        loop = find_loop([pieces[index] for index in kept], ran_on=ran_on)
        if loop is None:
            break
        del kept[loop.start + keep * loop.unit : loop.end]
        ran_on = False
    return kept


def without_loops(text: str, *, spaced: bool = True, keep: int = 1, ran_on: bool = False) -> str:
    """The text with every loop cut to its first `keep` repetitions."""
    pieces = split_pieces(text, spaced=spaced)
    kept = cut_loops(pieces, keep, ran_on=ran_on)
    return text if len(kept) == len(pieces) else "".join(pieces[index] for index in kept).strip()
