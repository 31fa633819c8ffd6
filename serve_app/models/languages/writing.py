"""How languages are written, as far as texts are cut, joined and put right by it."""

from __future__ import annotations

import re
from typing import Final

LANGUAGES_WITHOUT_SPACES: Final = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "bo"})

SENTENCE_ENDS: Final = ".。!！?？"
"""Marks that end a sentence; an ellipsis may end one or not."""

CLOSING_QUOTES: Final = r"[\"'”’)\]»]*"
"""What may follow such a mark before the space, as a regular expression."""

SENTENCE_END: Final = re.compile(rf"[{SENTENCE_ENDS}…]{CLOSING_QUOTES}$")
"""A text that ends in the end of a sentence, or in an ellipsis."""
