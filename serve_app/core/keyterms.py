"""Words to expect: how a client names them, and by how much each counts."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

MAX_KEYTERMS: Final = 500
MAX_KEYTERM_CHARS: Final = 100
MAX_BOOST: Final = 3.0

_BOOST = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")


class KeytermMethod(StrEnum):
    """What is done with terms: the search lifts them, or they stand in the prompt, or both."""

    LIFT = "lift"
    PROMPT = "prompt"
    BOTH = "both"


class Keyterm(NamedTuple):
    """A term, and by what its budget is multiplied, in (0, `MAX_BOOST`]."""

    text: str
    boost: float = 1.0


def parse_keyterms(hotwords: str) -> list[Keyterm]:
    """The terms between commas, each once, "term:2" with its boost. Those with boost 0 or too long, and what
    comes behind the first `MAX_KEYTERMS`, are left out."""
    found: dict[str, float] = {}
    for part in hotwords.split(","):
        text, boost = _split(part)
        if boost > 0 and 0 < len(text) <= MAX_KEYTERM_CHARS:
            found[text] = max(boost, found.get(text, 0.0))
    return [Keyterm(text, boost) for text, boost in list(found.items())[:MAX_KEYTERMS]]


def without_boosts(hotwords: str) -> str:
    """The same terms as text, for a prompt."""
    return ", ".join(_split(part).text for part in hotwords.split(",")) if ":" in hotwords else hotwords


def with_boost(term: Keyterm) -> str:
    """A term as `parse_keyterms` reads it: one that ends like a boost has its own behind it."""
    text, boost = term
    if boost == 1 and _split(text).text == " ".join(text.split()):
        return text
    return f"{text}:{max(boost, 1e-6):.6f}".rstrip("0").rstrip(".")


def _split(part: str) -> Keyterm:
    term, colon, boost = part.rpartition(":")
    if not colon or not term.strip() or not _BOOST.fullmatch(boost.strip()):
        return Keyterm(" ".join(part.split()))
    return Keyterm(" ".join(term.split()), min(MAX_BOOST, float(boost)))
