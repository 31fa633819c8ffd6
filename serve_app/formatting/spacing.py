"""Spaces put right: one between words, none before a comma, one behind it."""

from __future__ import annotations

import re
from functools import cache

from serve_app.formatting.edits import Edit

LANGUAGES_WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "bo"})

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
