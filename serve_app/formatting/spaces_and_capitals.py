"""Spaces put right (one between words, none before a comma, one behind it), then capitals.

Capitals are missing at the start of a sentence and in the English "I", and too many where a text has no other
letters.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from serve_app.formatting.edits import Edit
from serve_app.models.languages.writing import CLOSING_QUOTES, LANGUAGES_WITHOUT_SPACES, SENTENCE_ENDS

_ALWAYS_CLOSING = r"[)\]}”、。，．！？；：）」』】]"
_CLOSING_MARKS = r"[,.;:!?…]"
_CLOSING_MARKS_FRENCH = r"[,.…]"
"""French sets a space before its high marks, often one that does not break: it stays."""

_BLANK = r"[^\S\u00a0\u202f]"
"""White space other than a space that does not break."""


def spacing_edits(text: str, language: str) -> list[Edit]:
    """What has to change, in order. Spaces at the two ends of the text are only made one."""
    edits = []
    for match in _pattern(language == "fr", language in LANGUAGES_WITHOUT_SPACES).finditer(text):
        start, end = match.span()
        kind = match.lastgroup
        if kind == "before_mark":
            # The character before is part of it, so that the mark's word joins the word it stands behind.
            edits.append(Edit(start - 1, end, text[start - 1]))
        elif kind == "after_bracket":
            edits.append(Edit(start, end, ""))
        elif kind == "missing" or text[start:end] != " ":
            edits.append(Edit(start, end, " "))
    return edits


@cache
def _pattern(is_french: bool, without_spaces: bool) -> re.Pattern[str]:
    marks = _CLOSING_MARKS_FRENCH if is_french else _CLOSING_MARKS
    alternatives = [
        # A point before a digit (" .5") is no full stop.
        rf"(?P<before_mark>(?<=\S)\s+(?={_ALWAYS_CLOSING}|{marks}+(?:[\s\"'”’)\]]|$)))",
        r"(?P<after_bracket>(?<=[(\[{¿¡“])\s+)",
        rf"(?P<blanks>{_BLANK}+)",
    ]
    if not without_spaces:
        alternatives.append(r"(?P<missing>(?<=[^\W\d_][,;!])(?=[^\W\d_]))")
    return re.compile("|".join(alternatives))


_SENTENCE_END = re.compile(rf"([{SENTENCE_ENDS}]+){CLOSING_QUOTES}\s+[\"'“‘(\[«¿¡]*\s*(?=\w)")
_FIRST_LETTER = re.compile(r"[\W_]*(?=\w)")
_WORD = re.compile(r"[\w'’.-]+")
_ENGLISH_I = re.compile(r"(?<![\w.'’@/-])i(?=['’](?:m|ll|ve|d|s|re)\b|[\s,;:!?…\"”]|\.(?!\w)|$)")
_LETTERS = re.compile(r"[^\W\d_]+")

_SHOUTED_WORDS: Final = 4
"""From this number of words without one small letter on it is a model's way of writing, not an acronym."""

_ABBREVIATIONS: Final = frozenset(
    {"e.g", "i.e", "etc", "vs", "approx", "ca", "cf", "no", "nr", "st", "mr", "mrs", "ms", "dr", "prof"}
    | {"z.b", "d.h", "u.a", "bzw", "sog", "usw", "str", "sr", "sra", "srta", "ud", "uds", "p.ej", "mme"}
    | {"mlle", "p.ex", "av", "min", "max", "a.m", "p.m"}
)
_ORDINAL_POINT: Final = frozenset(
    {"de", "da", "no", "nn", "fi", "cs", "sk", "sl", "hr", "sr", "hu", "et", "is"}
)
"""Languages that write "21." for the twenty-first: no sentence ends there."""

_STOPS: Final = {"zh": "。", "ja": "。", "yue": "。", "hi": "।", "bn": "।", "ne": "।", "mr": "।"}


def shouting_edits(text: str, language: str) -> list[Edit]:
    """Small letters for a text of at least four words that has none."""
    words = [match for match in _LETTERS.finditer(text) if len(match[0]) > 1]
    if len(words) < _SHOUTED_WORDS or text != text.upper() or text == text.lower():
        return []
    edits = []
    for match in _LETTERS.finditer(text):
        small = _lower(match[0], language)
        if small != match[0] and len(small) == len(match[0]):
            edits.append(Edit(match.start(), match.end(), small))
    return edits


def casing_edits(text: str, language: str, *, continues: bool = False) -> list[Edit]:
    """Capitals that are missing. `continues`: the text goes on from a sentence that began before it."""
    starts = []
    first = _FIRST_LETTER.match(text)
    if first is not None and not continues:
        starts.append(first.end())
    for match in _SENTENCE_END.finditer(text):
        if not _is_open(text, match, language):
            starts.append(match.end())
    edits = [edit for start in starts if (edit := _capital(text, start, language)) is not None]
    if language == "en":
        taken = {edit.start for edit in edits}
        alone = (match.start() for match in _ENGLISH_I.finditer(text))
        edits += [Edit(start, start + 1, "I") for start in alone if start not in taken]
    return sorted(edits)


def stop_edits(text: str, language: str) -> list[Edit]:
    """A full stop behind a text that ends in a letter or digit, in languages that have one."""
    stop = _STOPS.get(language, "" if language in LANGUAGES_WITHOUT_SPACES else ".")
    end = len(text.rstrip())
    if not stop or not end or not (text[end - 1].isalnum() or text[end - 1] == "%"):
        return []
    return [Edit(end, end, stop)]


def _is_open(text: str, end: re.Match[str], language: str) -> bool:
    """Whether the sentence goes on: after dots of hesitation, an abbreviation, an initial, an ordinal."""
    marks = end[1]
    if marks.startswith(".."):
        return True
    if marks != ".":
        return False
    before = text[: end.start()].rsplit(maxsplit=1)
    word = before[-1].lower().lstrip("([\"'“«") if before else ""
    if word.isdecimal():
        return language in _ORDINAL_POINT
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i")


def _capital(text: str, start: int, language: str) -> Edit | None:
    """The letter at `start` as a capital; None for a word that has its own way ("iPhone", "e.on")."""
    word = _WORD.match(text, start)
    if word is None or word[0] != word[0].lower() or "." in word[0].rstrip("."):
        return None
    end = start + 2 if language == "nl" and word[0].startswith("ij") else start + 1
    letters = text[start:end]
    large = "İ" if language in ("tr", "az") and letters == "i" else letters.upper()
    return Edit(start, end, large) if large != letters and len(large) == len(letters) else None


def _lower(text: str, language: str) -> str:
    if language in ("tr", "az"):
        text = text.replace("I", "ı").replace("İ", "i")
    return text.lower()
