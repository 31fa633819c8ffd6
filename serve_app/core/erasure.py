"""Deletion on request: what is to be erased, and what each store that keeps something does about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from serve_app.core.errors import InvalidMessage

MAX_ID_CHARS = 256


@dataclass(frozen=True, slots=True)
class Erasure:
    """All that is kept of one session, or of one key (`Caller.key_id`), or one clip. Exactly one is given.

    Raises `InvalidMessage` otherwise.
    """

    session_id: str = ""
    key_id: str = ""
    clip_id: str = ""

    def __post_init__(self) -> None:
        given = [value for value in (self.session_id, self.key_id, self.clip_id) if value]
        if len(given) != 1:
            raise InvalidMessage("name one of: session, key, clip")
        if len(given[0]) > MAX_ID_CHARS:
            raise InvalidMessage(f"an id has at most {MAX_ID_CHARS} characters")


class Eraser(Protocol):
    """A store that can forget. It reaches what all replicas keep, not only what this process does.

    `name`: of the store, in answers and logs ("clips", "cache", "jobs", "audit"). `only_if_asked`: it is left
    out where the request does not name it.
    """

    name: str
    only_if_asked: bool

    async def erase(self, wanted: Erasure) -> int:
        """How many things are gone now; 0 where it keeps none of that kind. Does not wait for what is open:
        a live session, or a job that runs. May be called again for the same. Raises `OSError` and the like
        where something may be left."""
