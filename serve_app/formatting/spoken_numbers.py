"""The numbers spelled in a text, as text2num finds and reads them, and the words beside them that count."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

from text_to_num import find_numbers  # type: ignore[import-untyped]

PERCENT: Final[Mapping[str, tuple[tuple[tuple[str, ...], str], ...]]] = MappingProxyType(
    {
        "en": ((("percent",), "%"), (("per", "cent"), "%")),
        "de": ((("prozent",), " %"),),
        "es": ((("por", "ciento"), " %"), (("por", "cien"), " %")),
        "fr": ((("pour", "cent"), " %"), (("pourcent",), " %")),
        "pt": ((("por", "cento"), "%"),),
        "it": ((("per", "cento"), "%"), (("percento",), "%")),
        "nl": ((("procent",), "%"),),
        "da": ((("procent",), " %"),),
    }
)
"""By language: the words, and the sign as it is set there."""

CURRENCIES: Final = MappingProxyType({"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"})
"""English. Pounds are weights too."""

MEASURES: Final = frozenset({
    "milligram", "milligrams", "mg", "microgram", "micrograms", "gram", "grams", "kilogram", "kilograms",
    "kilo", "kilos", "kg", "millilitre", "millilitres", "milliliter", "milliliters", "ml", "litre",
    "litres", "liter", "liters", "millimetre", "millimetres", "millimeter", "millimeters", "mm",
    "centimetre", "centimetres", "centimeter", "centimeters", "cm", "kilometre", "kilometres",
    "kilometer", "kilometers", "km", "degrees", "volts", "watts", "megabytes", "gigabytes", "am", "pm",
    "a.m", "p.m", "o'clock", "o’clock",
})  # fmt: skip
"""English: small numbers before them are digits too."""

CLOCK_WORDS: Final = frozenset({"am", "pm", "a.m", "p.m"})

SCALES: Final = MappingProxyType({"million": 10**6, "billion": 10**9, "trillion": 10**12})

DECADES: Final = MappingProxyType(
    {
        "twenties": "20s",
        "thirties": "30s",
        "forties": "40s",
        "fifties": "50s",
        "sixties": "60s",
        "seventies": "70s",
        "eighties": "80s",
        "nineties": "90s",
    }
)

REPEATS: Final = MappingProxyType({"double": 2, "triple": 3})

DECIMAL_WORDS: Final = frozenset({"point", "komma", "coma", "punto", "virgule", "vírgula", "virgola"})
"""Beside a number that text2num has not taken them into: a version ("two point five point six")."""

FRACTION_WORDS: Final = frozenset({"half", "quarter", "third", "of"})


LANGUAGES: Final = frozenset({"en", "de", "es", "fr", "pt", "it", "nl", "da"})
"""Those that text2num knows."""

_OH: Final = frozenset({"oh", "o"})
_DIGITS: Final = frozenset({"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"})
_MIN_ROW: Final = 3
"""Digits of the shortest row that is read as one."""
_AFTER_AN_INTERJECTION: Final = frozenset(
    {"no", "yes", "yeah", "well", "wait", "my", "dear", "god", "i", "and", "but", "so", "sorry", "okay", "ok"}
)
"""Behind "oh" they show that it is none of the digits before it: "one two three oh no"."""

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
    """As in "nineteen oh five", "oh one seven one" and "double oh seven"; "oh" is a word too, and stays one
    in "oh one more thing"."""
    for index, token in enumerate(tokens):
        if token.word.lower() in _OH and (_in_number(tokens, index) or _in_row(tokens, index)):
            token.word = "zero"


def _in_number(tokens: Sequence[Token], index: int) -> bool:
    """Between two numbers, or beside the point of a decimal."""
    before, after = _neighbour(tokens, index, -1), _neighbour(tokens, index, 1)
    if before is not None and (before.word.lower() == "point" or spells_number(before)):
        if after is not None and spells_number(after):
            return True
        whole = _neighbour(tokens, index - 1, -1)
        return before.word.lower() == "point" and whole is not None and spells_number(whole)
    fraction = _neighbour(tokens, index + 1, 1) if after is not None else None
    return (
        after is not None and after.word.lower() == "point" and fraction is not None and _is_digit(fraction)
    )


def _in_row(tokens: Sequence[Token], index: int) -> bool:
    """In a row of at least three digits said one by one; of four where the row begins a sentence with "oh",
    as an interjection does."""
    first, end = index, index + 1
    while first and not tokens[first].apart and _is_digit(tokens[first - 1]):
        first -= 1
    while end < len(tokens) and not tokens[end].apart and _is_digit(tokens[end]):
        end += 1
    following = _neighbour(tokens, end - 1, 1)
    if following is not None:
        if spells_number(following):
            return False  # "oh two five hundred"
        if index == end - 1 and following.word.lower() in _AFTER_AN_INTERJECTION:
            return False
    row = [token.word.lower() for token in tokens[first:end]]
    num_digits = sum(REPEATS.get(before, 1) for before, word in pairwise(["", *row]) if word not in REPEATS)
    is_repeated = index > first and row[index - first - 1] in REPEATS
    others = sum(word not in REPEATS and word not in _OH for word in row)
    starts = row[0] in _OH and (first == 0 or tokens[first].apart)
    return others >= (1 if is_repeated or not starts else 2) and num_digits >= _MIN_ROW + starts


def _is_digit(token: Token) -> bool:
    word = token.word.lower()
    return word in _DIGITS or word in _OH or word in REPEATS


def _neighbour(tokens: Sequence[Token], index: int, step: int) -> Token | None:
    """The token beside that at `index` where no mark stands between the two."""
    other = index + step
    if not 0 <= other < len(tokens) or not 0 <= index < len(tokens):
        return None
    return None if tokens[max(index, other)].apart else tokens[other]


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
