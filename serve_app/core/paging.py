"""Where a page of a list ends, so that the next one goes on there although the list changes meanwhile."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from serve_app.core.errors import InvalidMessage

_TEXT: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,20})?)_([0-9A-Za-z-]{1,64})", re.ASCII)
MAX_CHARS: Final = 100


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The last item of a page, newest first: when it was made, and its id, which orders those of a moment."""

    created_s: float
    item_id: str

    def __str__(self) -> str:
        return f"{self.created_s!r}_{self.item_id}"


NEWEST: Final = Place(math.inf, "")
"""Before all items: where the first page begins."""


def place_of(text: str | None) -> Place:
    """What a client got as `next`; without one the first page. Raises `InvalidMessage`."""
    if text is None:
        return NEWEST
    found = _TEXT.fullmatch(text)
    if found is None:
        raise InvalidMessage("before: expected the `next` of an earlier answer")
    return Place(float(found[1]), found[2])
