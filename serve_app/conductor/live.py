"""One live session as a door holds it: the sans-IO session, and a bounded way out for its events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from time import monotonic

from serve_app.asr.jobs import Pcm16
from serve_app.conductor.arrivals import Arrivals
from serve_app.conductor.sound import SoundInput
from serve_app.events import EndReason, Event, Final, Partial, SessionEnded
from serve_app.session.effects import DecodeRequest, Effect
from serve_app.session.options import SessionOptions, ms_to_samples
from serve_app.session.session import Session

MAX_PENDING_FINALS = 4
"""More finished utterances than this in the queue, and the session's socket waits."""
MAX_UNREAD_EVENTS = 1000


class Live:
    """The async face of one `Session`.

    `push` waits while too much of the session's audio is undecoded: a door that awaits it stops reading
    its socket, which is the back-pressure that slows a client sending faster than real time. Unread
    partials of an utterance replace each other; a reader that leaves `MAX_UNREAD_EVENTS` others unread
    has its session ended.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_buffer_ms: int,
        wake: Callable[[], None],
        on_text: Callable[[Partial | Final, float], None] | None = None,
    ) -> None:
        """`on_text` hears of every text, and how many seconds before it the last audio that it needed had
        arrived."""
        self.session = session
        self.session_id = session.options.session_id
        self.requests: deque[DecodeRequest] = deque()
        self._max_buffer_samples = ms_to_samples(max_buffer_ms)
        self._wake = wake
        self._on_text = on_text
        self._arrivals = Arrivals()
        self._sound = SoundInput(
            session.options.conditioning,
            warn=session.options.level_warnings,
            first_sample=session.received_samples,
        )
        self._events: deque[Event] = deque()
        self._readable = asyncio.Event()
        self._room = asyncio.Event()
        self.apply(session.start())

    # -- the door's side -------------------------------------------------------------------------

    async def push(self, samples: Pcm16) -> None:
        """Take int16 `(n,)` audio at 16 kHz, in pieces no longer than the buffer; waits for room."""
        arrived_s = monotonic()
        step = max(1, self._max_buffer_samples)
        for start in range(0, len(samples), step):
            await self._wait_for_room()
            if self.session.ended:
                return
            heard, warnings = self._sound.take(samples[start : start + step])
            self.session.push(heard)
            self._arrivals.mark(self.session.received_samples, arrived_s)
            self.apply(warnings)
            self._wake()

    def flush(self) -> None:
        self.session.flush()
        self._arrivals.mark(self.session.received_samples, monotonic())
        self._wake()

    def reconfigure(self, options: SessionOptions) -> None:
        self.session.reconfigure(options)

    def end(self) -> None:
        self.session.end()
        self._arrivals.mark(self.session.received_samples, monotonic())
        self._wake()

    def cancel(self, reason: EndReason = EndReason.CANCELLED) -> None:
        self.apply(self.session.cancel(reason))

    async def events(self) -> AsyncIterator[Event]:
        """Events in order, up to and with `SessionEnded`."""
        while True:
            while not self._events:
                self._readable.clear()
                await self._readable.wait()
            event = self._events.popleft()
            yield event
            if isinstance(event, SessionEnded):
                return

    # -- the conductor's side --------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        waiting = self.session.unheard_samples
        return waiting <= self._max_buffer_samples and self.session.num_pending_finals < MAX_PENDING_FINALS

    def apply(self, effects: Iterable[Effect]) -> None:
        """Queue what goes to the client; keep what goes to a recogniser for the conductor's next call."""
        for effect in effects:
            if isinstance(effect, DecodeRequest):
                self.requests.append(effect)
            else:
                self._queue(effect)
        if self.session.ended or self.has_room:
            self._room.set()

    def _queue(self, event: Event) -> None:
        last = self._events[-1] if self._events else None
        if (
            isinstance(event, Partial)
            and isinstance(last, Partial)
            and last.utterance_id == event.utterance_id
        ):
            self._events[-1] = event
        else:
            self._events.append(event)
        self._readable.set()
        if isinstance(event, Partial | Final):
            self._count(event)
        if len(self._events) > MAX_UNREAD_EVENTS and not self.session.ended:
            self.cancel(EndReason.ERROR)

    def _count(self, text: Partial | Final) -> None:
        needed = text.decided_sample if isinstance(text, Final) else text.end_sample
        latency_s = self._arrivals.since(needed, monotonic())
        if self._on_text is not None and latency_s is not None:
            self._on_text(text, latency_s)
        if isinstance(text, Final):
            self._arrivals.forget(needed)

    async def _wait_for_room(self) -> None:
        while not self.has_room and not self.session.ended:
            self._room.clear()
            await self._room.wait()
