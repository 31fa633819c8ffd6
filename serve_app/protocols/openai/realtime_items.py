"""The conversation items of one Realtime session: which stretch of audio each event belongs to.

An item is one turn: from the start to the end of speech as the detector found them, or, without detection,
from one commit of the client to the next. An utterance is never longer than Whisper's window, so that a long
turn has several finals; they belong to the item whose stretch they lie in, and come in its order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from serve_app.core.events import Final
from serve_app.core.jobs import Word
from serve_app.core.samples import SAMPLE_RATE_HZ

TOLERANCE_SAMPLES = SAMPLE_RATE_HZ // 50
"""Commits are counted in the client's samples, events in resampled ones: they differ by a few."""

MAX_ITEMS = 64
"""Turns that wait for their text; a session lets far fewer wait."""


@dataclass(slots=True)
class Item:
    """One turn; `ended_sample` None: still being spoken. `discarded`: the client cleared its audio."""

    item_id: str
    onset_sample: int
    ended_sample: int | None = None
    discarded: bool = False
    text: str = ""
    language: str = ""
    words: list[Word] = field(default_factory=list)
    num_samples: int = 0

    def add(self, final: Final) -> None:
        self.text = f"{self.text} {final.text.strip()}".strip()
        self.language = self.language or final.language
        self.words.extend(final.words)
        self.num_samples += final.end_sample - final.start_sample

    def is_over_at(self, sample: int) -> bool:
        """Whether nothing of it comes behind `sample`, where the next utterance begins."""
        return self.ended_sample is not None and self.ended_sample <= sample + TOLERANCE_SAMPLES


class Items:
    """Turns in order, from when they begin until their text is complete."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._number = 0
        self._items: deque[Item] = deque()
        self._last_committed: str | None = None

    @property
    def open_item(self) -> Item | None:
        """The turn in progress."""
        last = self._items[-1] if self._items else None
        return last if last is not None and last.ended_sample is None else None

    def begin(self, onset_sample: int, *, discarded: bool = False) -> tuple[Item, Item | None]:
        """A new turn; the second is one that has to be completed with what it has, to make room."""
        oldest = self._items.popleft() if len(self._items) >= MAX_ITEMS else None
        item = self.stray(onset_sample)
        item.discarded = discarded
        self._items.append(item)
        return item, oldest

    def stray(self, onset_sample: int) -> Item:
        """A turn that is complete as soon as it is made."""
        self._number += 1
        return Item(f"item_{self._name}{self._number - 1:06d}", onset_sample)

    def committed_after(self, item: Item) -> str | None:
        """Note that `item` is committed now; the id of the one committed before it."""
        previous, self._last_committed = self._last_committed, item.item_id
        return previous

    def owner(self, start_sample: int, end_sample: int) -> Item | None:
        """The first turn that this stretch of audio lies in."""
        for item in self._items:
            ended = item.ended_sample
            before_end = ended is None or start_sample < ended - TOLERANCE_SAMPLES
            if before_end and end_sample > item.onset_sample:
                return item
        return None

    def first_ended(self) -> Item | None:
        return next((item for item in self._items if item.ended_sample is not None), None)

    def remove(self, item: Item) -> None:
        self._items.remove(item)

    def take_before(self, item: Item) -> list[Item]:
        """Remove the turns in front of `item`: finals come in order, so no text will come for them."""
        taken: list[Item] = []
        while self._items and self._items[0] is not item:
            taken.append(self._items.popleft())
        return taken

    def take_over_at(self, sample: int) -> list[Item]:
        """Remove the turns that are over where the next utterance begins."""
        taken: list[Item] = []
        while self._items and self._items[0].is_over_at(sample):
            taken.append(self._items.popleft())
        return taken

    def take_all(self) -> list[Item]:
        taken = list(self._items)
        self._items.clear()
        return taken
