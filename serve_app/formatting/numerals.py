"""Spoken numbers to digits: text2num finds and reads them, the rules here decide which are written so.

What could be read in two ways stays in words: "one of them", "five thirty", "two hundred and five hundred".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from serve_app.formatting.edits import Edit
from serve_app.formatting.spoken_numbers import (
    CLOCK_WORDS,
    CURRENCIES,
    DECADES,
    DECIMAL_WORDS,
    FRACTION_WORDS,
    LANGUAGES,
    MEASURES,
    PERCENT,
    SCALES,
    Number,
    Token,
    numbers_of,
    runs_of,
    spells_number,
    tokens_of,
)

_MIN_DIGIT_RUN: Final = 3
_FIRST_YEAR, _LAST_YEAR = 15, 20
"""Centuries in which two numbers of two digits are a year ("nineteen eighty four"), not a time or a price."""


def numeral_edits(text: str, language: str, *, smallest_alone: int) -> list[Edit]:
    """What has to change, in order; nothing in a language that text2num does not know.

    Whole numbers under `smallest_alone` stay words where no other number and no unit stands beside them.
    """
    if language not in LANGUAGES:
        return []
    tokens = tokens_of(text, language)
    writer = _Writer(tokens, language, smallest_alone)
    return [
        Edit(tokens[first].start, tokens[end - 1].end, written)
        for first, end, written in writer.replacements(runs_of(tokens, numbers_of(tokens, language)))
    ]


class _Writer:
    """Decides how each run of numbers is written, looking at the words around it."""

    def __init__(self, tokens: Sequence[Token], language: str, smallest_alone: int) -> None:
        self._tokens = tokens
        self._language = language
        self._smallest_alone = smallest_alone

    def replacements(self, runs: Sequence[list[Number]]) -> Iterator[tuple[int, int, str]]:
        """First token, end token and new text of what changes, in order."""
        done = 0
        for run, next_run in zip_longest(runs, runs[1:]):
            if run[0].first < done:
                continue  # part of what the number before took: the "cent" of "pour cent"
            change = self._change(run, next_run)
            if change is not None:
                done = change[1]
                yield change

    def _change(self, run: list[Number], next_run: list[Number] | None) -> tuple[int, int, str] | None:
        first, end = run[0].first, run[-1].end
        if self._word(first - 1, end=first) in DECIMAL_WORDS or self._word(end) in DECIMAL_WORDS:
            return None
        if len(run) == 1:
            return self._one(run[0], next_run)
        written = self._several(run)
        if written is not None:
            return first, end, written
        return self._scaled(run)

    def _several(self, run: list[Number]) -> str | None:
        """A row of digits, a year, a time of day, a blood pressure."""
        if all(number.by_digit for number in run):
            row = "".join(number.digits for number in run)
            return row if len(row) >= _MIN_DIGIT_RUN else None
        if self._language != "en" or len(run) != 2:
            return None
        (left, right), after = run, self._word(run[-1].end)
        if not left.digits or len(right.digits) != 2:
            return None
        if _FIRST_YEAR <= left.value <= _LAST_YEAR:
            return left.digits + right.digits
        if after in CLOCK_WORDS and 1 <= left.value <= 12 and right.value < 60:
            return f"{left.digits}:{right.digits}"
        if after == "over" and left.value < 10 and self._is_number(run[-1].end + 1):
            return left.digits + right.digits
        return None

    def _scaled(self, run: list[Number]) -> tuple[int, int, str] | None:
        """A decimal before a scale keeps that word: "1.2 million"."""
        if len(run) != 2 or run[0].ordinal or run[0].digits or not self._is_bare_scale(run[1]):
            return None
        number, scale = run
        return self._with_unit(
            number.first, scale.end, f"{number.text} {self._tokens[scale.first].word}", None
        )

    def _one(self, number: Number, next_run: list[Number] | None) -> tuple[int, int, str] | None:
        words = [token.word.lower() for token in self._tokens[number.first : number.end]]
        if number.ordinal:
            return self._ordinal(number)
        if self._language == "en" and (words[-1] == "ones" or ("and" in words and number.value < 100)):
            return None
        decade = DECADES.get(self._word(number.end)) if self._language == "en" else None
        if decade and len(words) == 1 and 10 <= number.value <= _LAST_YEAR:
            return number.first, number.end + 1, f"{number.text}{decade}"
        first = self._with_article(number, words)
        if first is None:
            return None
        if number.by_digit and 1 < len(number.digits) < _MIN_DIGIT_RUN and number.digits[0] != "0":
            return None  # "double five"
        first, text = self._signed(first, self._in_millions(number, words))
        change = self._with_unit(first, number.end, text, next_run)
        has_unit = change != (first, number.end, text) or self._is_measure(number.end)
        if self._is_bare_scale(number) and not has_unit:
            return None
        is_small = number.value < self._smallest_alone and number.digits == f"{number.value:.0f}"
        return None if is_small and not has_unit and first == number.first else change

    def _ordinal(self, number: Number) -> tuple[int, int, str] | None:
        is_fraction = self._language == "en" and (
            number.text.endswith("s") or self._word(number.first - 1, end=number.first) in ("a", "an")
        )
        if is_fraction or number.value < self._smallest_alone:
            return None
        return number.first, number.end, number.text

    def _with_article(self, number: Number, words: Sequence[str]) -> int | None:
        """The first token, the article of "a hundred and five" among them; None for "several hundred"."""
        if self._language != "en" or words[0] not in ("hundred", "thousand", *SCALES):
            return number.first
        if self._word(number.first - 1, end=number.first) != "a":
            return None
        if self._word(number.first - 2, end=number.first - 1) in FRACTION_WORDS:
            return None
        return number.first - 1

    def _in_millions(self, number: Number, words: Sequence[str]) -> str:
        """Round millions and billions keep that word."""
        scale = SCALES.get(words[-1]) if self._language == "en" else None
        if scale is None or number.value % scale:
            return number.text
        return f"{number.value / scale:.0f} {words[-1]}"

    def _signed(self, first: int, text: str) -> tuple[int, str]:
        """With the sign of "minus five", but not of "ten minus five"."""
        if self._language != "en" or self._word(first - 1, end=first) not in ("minus", "negative"):
            return first, text
        if self._is_number(first - 2):
            return first, text
        return first - 1, f"-{text}"

    def _with_unit(
        self, first: int, end: int, text: str, next_run: list[Number] | None
    ) -> tuple[int, int, str]:
        """With the percent or currency sign whose words follow."""
        for phrase, sign in PERCENT[self._language]:
            if all(self._word(end + offset) == word for offset, word in enumerate(phrase)):
                return first, end + len(phrase), text + sign
        sign = CURRENCIES.get(self._word(end), "") if self._language == "en" else ""
        if not sign or text.startswith("-"):
            return first, end, text
        cents = self._cents(end + 1, next_run) if text.isdecimal() else None
        if cents is not None:
            return first, cents[0], f"{sign}{text}.{cents[1]}"
        return first, end + 1, sign + text

    def _cents(self, start: int, next_run: list[Number] | None) -> tuple[int, str] | None:
        """The "(and) fifty cents" behind a sum: the end token and two digits."""
        if next_run is None or len(next_run) != 1:
            return None
        (number,) = next_run
        if number.first != start + (self._word(start) == "and") or self._tokens[start].apart:
            return None
        if not number.digits or number.value > 99 or self._word(number.end) not in ("cents", "cent"):
            return None
        return number.end + 1, f"{int(number.value):02d}"

    def _is_measure(self, index: int) -> bool:
        return self._language == "en" and self._word(index) in MEASURES

    def _is_bare_scale(self, number: Number) -> bool:
        """A "hundred" or "mille" alone, which need not say a number: "several hundred"."""
        power = number.digits.rstrip("0") == "1" and number.value >= 100
        return power and number.end - number.first == 1

    def _word(self, index: int, *, end: int | None = None) -> str:
        """The word at `index` in small letters; empty where there is none or a mark stands before it.

        For a word before something else, `end` is the token behind it, which the mark would stand before.
        """
        if not 0 <= index < len(self._tokens):
            return ""
        apart = self._tokens[index if end is None else end].apart
        return "" if apart else self._tokens[index].word.lower()

    def _is_number(self, index: int) -> bool:
        return 0 <= index < len(self._tokens) and spells_number(self._tokens[index])
