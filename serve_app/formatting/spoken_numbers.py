"""The numbers that are spelled in a text, as text2num finds and reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from text_to_num import find_numbers  # type: ignore[import-untyped]

from serve_app.formatting.number_phrases import REPEATS

LANGUAGES: Final = frozenset({"en", "de", "es", "fr", "pt", "it", "nl", "da"})
"""Those that text2num knows."""

_TOKEN = re.compile(r"\S+")
_CORE = re.compile(r"[^\W_](?:.*[^\W_])?", re.DOTALL)


class Token:
    """A word without the punctuation around it, at `[start, end)` of the text; text2num's own protocol.

    `apart`: a mark stands between it and the word before, so no number runs over both.
    """

    __slots__ = ("apart", "end", "start", "word")

    def __init__(self, word: str, start: int, end: int, apart: bool) -> None:
        self.word, self.start, self.end, self.apart = word, start, end, apart

    def text(self) -> str:
        return self.word

    def nt_separated(self, previous: Token) -> bool:
        return self.apart

    def not_a_number_part(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Number:
    """Tokens `[first, end)` that spell one number, and how text2num writes it.

    `by_digit`: said digit by digit ("zero zero seven"), as telephone numbers are.
    """

    text: str
    value: float
    ordinal: bool
    first: int
    end: int
    by_digit: bool

    @property
    def digits(self) -> str:
        """The text of a whole cardinal; empty for ordinals and decimals."""
        return self.text if not self.ordinal and self.text.isdecimal() else ""


def tokens_of(text: str, language: str) -> list[Token]:
    tokens: list[Token] = []
    apart = False
    for match in _TOKEN.finditer(text):
        core = _CORE.search(match[0])
        if core is None:
            apart = True
            continue
        start, end = match.start() + core.start(), match.start() + core.end()
        tokens.append(Token(core[0], start, end, apart or core.start() > 0))
        apart = core.end() < len(match[0])
    if language == "en":
        _read_oh_as_zero(tokens)
    return tokens


def _read_oh_as_zero(tokens: list[Token]) -> None:
    """As in "nineteen oh five" and "five oh two": only between numbers, for "oh" is a word too."""
    for before, here, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if here.word.lower() not in ("oh", "o") or here.apart or after.apart:
            continue
        after_number = before.word.lower() == "point" or spells_number(before)
        if after_number and spells_number(after):
            here.word = "zero"


def spells_number(token: Token) -> bool:
    """Whether an English word is a number, or part of one, by itself."""
    return bool(find_numbers([token], "en", 0.0))


def numbers_of(tokens: list[Token], language: str) -> list[Number]:
    """What text2num finds, in order."""
    numbers = [_number(found) for found in find_numbers(tokens, language, 0.0)]
    return [_repeated(number, tokens) for number in numbers] if language == "en" else numbers


def _number(found: Any) -> Number:
    whole = found.text.isdecimal() and not found.is_ordinal
    by_digit = whole and (len(found.text) == 1 or found.text.startswith("0"))
    return Number(found.text, found.value, found.is_ordinal, found.start, found.end, by_digit)


def _repeated(number: Number, tokens: Sequence[Token]) -> Number:
    """With the word before it, where that is the "double" of "double five"."""
    before = tokens[number.first - 1].word.lower() if number.first else ""
    times = REPEATS.get(before)
    if times is None or tokens[number.first].apart or not number.by_digit:
        return number
    digits = number.digits[0] * (times - 1) + number.digits
    return replace(number, text=digits, first=number.first - 1)


def runs_of(tokens: Sequence[Token], numbers: Sequence[Number]) -> list[list[Number]]:
    """Numbers that follow one another with neither a word nor a mark between them."""
    runs: list[list[Number]] = []
    for number in numbers:
        if runs and runs[-1][-1].end == number.first and not tokens[number.first].apart:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
