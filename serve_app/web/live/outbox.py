"""The one queue between the sessions of a connection and its client, and the task that empties it.

It is bounded in bytes, since a client may read as late as it likes. Events wait as events, not as frames: a
dialect that sends differences must see only what is really sent. From `COALESCE_BYTES` on an unread interim
is replaced by the next one of its utterance, and dropped when the utterance's final comes. Finals wait. Of
the unread revisions of one final's speakers only the newest does.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final as Constant
from typing import TypeAlias

import structlog

from serve_app.core.events import Event, Final, Partial, SpeakerRevision
from serve_app.protocols.dialect import Dialect, Frame
from serve_app.web.live.send_limit import SendLimit
from serve_app.web.live.transports import ClientGone, Transport

log = structlog.get_logger(__name__)

COALESCE_BYTES: Constant = 16 * 1024
MAX_UNREAD_BYTES: Constant = 2 * 1024 * 1024
"""Two to three hours of speech as the native protocol writes it."""

_MESSAGE_BYTES, _WORD_BYTES, _LABEL_BYTES = 400, 80, 16
"""About what a message, each of its words and a speaker's label take besides the text itself."""

MAX_READING: Constant = 10
"""A client that reads slowly has so many times the wait for one frame for all of them, at the end."""


@dataclass(frozen=True, slots=True)
class ChannelEvent:
    """An event of the session of one channel."""

    channel: int
    event: Event


Item: TypeAlias = ChannelEvent | Frame


class Outbox:
    """A queue with one reader. `overflowed` is set once more waits than may."""

    def __init__(self, max_bytes: int = MAX_UNREAD_BYTES, coalesce_bytes: int = COALESCE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._coalesce_bytes = coalesce_bytes
        self._items: OrderedDict[int, Item] = OrderedDict()
        self._partials: dict[tuple[int, str], int] = {}
        self._revisions: dict[tuple[int, str], int] = {}
        self._next_key = 0
        self._closed = False
        self._changed = asyncio.Event()
        self.num_bytes = 0
        self.overflowed = asyncio.Event()

    def put_event(self, channel: int, event: Event) -> None:
        if isinstance(event, Partial | Final):
            unread = self._partials.get((channel, event.utterance_id))
            if unread is not None and self.num_bytes >= self._coalesce_bytes:
                self._remove(unread)
        elif isinstance(event, SpeakerRevision):
            unread = self._revisions.get((channel, event.utterance_id))
            if unread is not None:
                self._remove(unread)
        key = self._put(ChannelEvent(channel, event))
        if isinstance(event, Partial | SpeakerRevision):
            self._unread(event)[channel, event.utterance_id] = key

    def put_frames(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._put(frame)

    def clear(self) -> None:
        """Drop what waits."""
        self._items.clear()
        self._partials.clear()
        self._revisions.clear()
        self.num_bytes = 0

    def close(self) -> None:
        """Nothing more comes: `take` ends behind what waits."""
        self._closed = True
        self._changed.set()

    async def take(self) -> Item | None:
        """The next item; None at the end."""
        while not self._items:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._remove(next(iter(self._items)))

    def _put(self, item: Item) -> int:
        self._next_key += 1
        self._items[self._next_key] = item
        self.num_bytes += _size_bytes(item)
        self._changed.set()
        if self.num_bytes > self._max_bytes:
            self.overflowed.set()
        return self._next_key

    def _unread(self, event: Partial | SpeakerRevision) -> dict[tuple[int, str], int]:
        return self._partials if isinstance(event, Partial) else self._revisions

    def _remove(self, key: int) -> Item:
        item = self._items.pop(key)
        self.num_bytes -= _size_bytes(item)
        if isinstance(item, ChannelEvent) and isinstance(item.event, Partial | SpeakerRevision):
            known = self._unread(item.event)
            utterance = (item.channel, item.event.utterance_id)
            if known.get(utterance) == key:
                del known[utterance]
        return item


def _size_bytes(item: Item) -> int:
    """About what the item takes on the wire; the same before and after it waited."""
    if not isinstance(item, ChannelEvent):
        return len(item)
    match item.event:
        case Partial(text=text):
            return _MESSAGE_BYTES + 2 * len(text)
        case Final(text=text, words=words):
            return _MESSAGE_BYTES + 2 * len(text) + _WORD_BYTES * len(words)
        case SpeakerRevision(word_speakers=words):
            return _MESSAGE_BYTES + _LABEL_BYTES * len(words)
        case _:
            return _MESSAGE_BYTES


class Sender:
    """Sends what waits, one message after the other, in one task.

    `sent_s`: when a frame went out last; `sending_since_s`: since when one could not, if one cannot.
    """

    def __init__(
        self,
        transport: Transport,
        dialect: Dialect,
        outbox: Outbox,
        limit: SendLimit,
        *,
        on_text: Callable[[str], None] = lambda job_type: None,
    ) -> None:
        """`on_text` hears "final" or "interim" of each text that was written."""
        self._transport = transport
        self._dialect = dialect
        self._outbox = outbox
        self._send_limit = limit
        self._on_text = on_text
        self._now_s = asyncio.get_running_loop().time
        self.sent_s = self._now_s()
        self.sending_since_s: float | None = None

    async def run(self) -> None:
        """Until the outbox is closed and empty. Raises `ClientGone`."""
        while (item := await self._outbox.take()) is not None:
            await self._send_limit.until_free()
            frames: Sequence[Frame]
            if isinstance(item, ChannelEvent):
                frames = self._dialect.send(item.event, item.channel)
            else:
                frames = (item,)
            for frame in frames:
                await self._send(frame)
            if frames and isinstance(item, ChannelEvent):
                if isinstance(item.event, Final):
                    self._on_text("final")
                elif isinstance(item.event, Partial):
                    self._on_text("interim")

    async def _send(self, frame: Frame) -> None:
        self.sending_since_s = self._now_s()
        await self._transport.send(frame)
        self.sent_s = self._now_s()
        self.sending_since_s = None
        self._send_limit.sent()

    async def until_read(self, running: asyncio.Task[None], patience_s: float) -> None:
        """Returns once `running` has sent everything, or could not send a frame for `patience_s`."""
        last_s = self._now_s() + MAX_READING * patience_s
        while not running.done():
            left_s = min(last_s, (self.sending_since_s or self._now_s()) + patience_s) - self._now_s()
            if left_s <= 0:
                return
            await asyncio.wait([running], timeout=left_s)
        error = running.exception()
        if isinstance(error, ClientGone):
            raise error
        if error is not None:
            log.error("messages could not be sent", exc_info=error)
