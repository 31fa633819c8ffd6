"""Words as they were spoken: without the leading space and the punctuation that Whisper joins to them."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = frozenset("%&@#*°")
"""Punctuation by Unicode, but read out by a speaker."""

_NUMBER = re.compile(r"[-+.,]?\d")


def spoken_form(word: str) -> str:
    """`" Olá,"` to `"Olá"`; inner marks stay (`"you're"`, `"3.5"`), `" ..."` becomes empty.

    A sign or point that belongs to a number stays too: `"-5"`, `".5"`, `"50%"`.
    """
    text = word.strip()
    start, end = 0, len(text)
    while start < end and _is_mark(text[start]) and not _NUMBER.match(text, start):
        start += 1
    while end > start and _is_mark(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_mark(char: str) -> bool:
    return char.isspace() or (char not in _SIGNS and unicodedata.category(char).startswith("P"))
