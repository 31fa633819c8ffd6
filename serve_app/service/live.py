"""One live session as a door holds it: the sans-IO session, its back-pressure and its latencies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic

from serve_app.core.events import EndReason, Event, Final, Partial, SessionEnded
from serve_app.core.samples import Pcm16, ms_to_samples
from serve_app.service.arrivals import Arrivals
from serve_app.service.conditioned_input import ConditionedInput
from serve_app.session.effects import DecodeRequest, Effect
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.telemetry.traces import SessionTrace

MAX_PENDING_FINALS = 4
"""More finished utterances than this in the queue, and the session's socket waits."""


class Live:
    """The async face of one `Session`.

    `push` waits while too much of the session's audio is undecoded: a door that awaits it stops reading
    its socket, which is the back-pressure that slows a client sending faster than real time. Events are
    handed to the door as they arise; what its client has not read waits there, in the connection's queue.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_buffer_ms: int,
        wake: Callable[[], None],
        on_text: Callable[[Partial | Final, float], None] | None = None,
        key_id: str = "",
        on_audio: Callable[[int], None] = lambda num_samples: None,
        on_end: Callable[[EndReason], None] = lambda reason: None,
    ) -> None:
        """`key_id`: whose session it is. `on_text` hears of every text, and how many seconds before it the
        last audio that it needed had arrived; `on_audio` of samples that were taken, `on_end` once why the
        session ended."""
        self.session = session
        self.session_id = session.options.session_id
        self.key_id = key_id
        self.requests: deque[DecodeRequest] = deque()
        self.num_finals = 0
        """In the recognisers' hands; the conductor counts them."""
        self._max_buffer_samples = ms_to_samples(max_buffer_ms)
        self._wake = wake
        self.trace: SessionTrace | None = None
        self._on_text = on_text
        self._on_audio = on_audio
        self._on_end = on_end
        self._arrivals = Arrivals()
        self._sound = ConditionedInput(
            session.options.conditioning,
            warn=session.options.level_warnings,
            first_sample=session.received_samples,
        )
        self._on_event: Callable[[Event], None] | None = None
        self._room: asyncio.Future[None] | None = None

    # -- the door's side -------------------------------------------------------------------------

    def start(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self.apply(self.session.start())

    async def push(self, samples: Pcm16) -> None:
        """Take int16 `(n,)` audio at 16 kHz, in pieces no longer than the buffer; waits for room."""
        arrived_s = monotonic()
        step = max(1, self._max_buffer_samples)
        for start in range(0, len(samples), step):
            await self._wait_for_room()
            if self.session.ended:
                return
            taken = samples[start : start + step]
            conditioned, warnings = self._sound.take(taken)
            self.session.push(conditioned)
            self._on_audio(len(taken))
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

    # -- the conductor's side --------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        waiting = self.session.unheard_samples
        return waiting <= self._max_buffer_samples and self.session.num_pending_finals < MAX_PENDING_FINALS

    def apply(self, effects: Iterable[Effect]) -> None:
        """Hand on what goes to the client; keep what goes to a recogniser for the conductor's next call."""
        for effect in effects:
            if isinstance(effect, DecodeRequest):
                self.requests.append(effect)
            else:
                self._tell(effect)
        if self._room is not None and (self.session.ended or self.has_room):
            self._room.set_result(None)
            self._room = None

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        if self.trace is not None:
            self.trace.told(event)
        if isinstance(event, Partial | Final):
            self._count(event)
        elif isinstance(event, SessionEnded):
            self._on_end(event.reason)

    def _count(self, text: Partial | Final) -> None:
        needed = text.decided_sample if isinstance(text, Final) else text.end_sample
        latency_s = self._arrivals.since(needed, monotonic())
        if self._on_text is not None and latency_s is not None:
            self._on_text(text, latency_s)
        if isinstance(text, Final):
            self._arrivals.forget(needed)

    async def _wait_for_room(self) -> None:
        while not self.has_room and not self.session.ended:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)
