"""What the clock does while a session is open: finals of speech whose audio stops, heartbeats, the load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serve_app.protocols.dialect import Dialect, Load
from serve_app.web.door import Door
from serve_app.web.live.channels import Channels
from serve_app.web.live.outbox import COALESCE_BYTES, Outbox


class IdleFinal:
    """For a client that stops sending in the middle of speech, so that no silence ends the utterance: calls
    `flush` once after audio, when no more has come for `patience_s`."""

    def __init__(self, patience_s: float, flush: Callable[[], None]) -> None:
        self._patience_s = patience_s
        self._flush = flush
        self._now_s = asyncio.get_running_loop().time
        self._taken_s: float | None = None
        self._has_audio = asyncio.Event()

    def taking(self) -> None:
        """Audio has come; until it is `taken` the wait is ours."""
        self._taken_s = None
        self._has_audio.clear()

    def taken(self) -> None:
        self._taken_s = self._now_s()
        self._has_audio.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._has_audio.wait()
            taken_s = self._taken_s
            if taken_s is None:
                continue
            left_s = taken_s + self._patience_s - self._now_s()
            if left_s > 0:
                await asyncio.sleep(left_s)
            elif self._taken_s == taken_s:
                self.taking()
                self._flush()


async def heartbeats(
    dialect: Dialect, channels: Channels, door: Door, outbox: Outbox, sent_s: Callable[[], float]
) -> None:
    """Runs until it is cancelled; `sent_s` tells when a frame of ours was last sent.

    A status that would only wait behind much else is left out: the next one says more.
    """
    now_s = asyncio.get_running_loop().time
    status_s, heartbeat_s = dialect.status_s, dialect.heartbeat_s
    status_due_s = beat_s = now_s()
    while status_s is not None or heartbeat_s is not None:
        wake_s = []
        if status_s is not None:
            if now_s() >= status_due_s:
                status_due_s = now_s() + status_s
                if outbox.num_bytes < COALESCE_BYTES:
                    outbox.put_frames(dialect.status(_load(channels, door)))
            wake_s.append(status_due_s)
        if heartbeat_s is not None:
            if now_s() >= max(beat_s, sent_s()) + heartbeat_s:
                beat_s = now_s()
                outbox.put_frames(dialect.heartbeat(channels.received_ms))
            wake_s.append(max(beat_s, sent_s()) + heartbeat_s)
        await asyncio.sleep(max(0.0, min(wake_s) - now_s()))


def _load(channels: Channels, door: Door) -> Load:
    interims, options = door.service.interim_load(), channels.options
    return Load(
        interims.level,
        round(options.partial_interval_ms * interims.slowdown),
        options.max_partial_window_ms / 1000 * interims.window_share,
        interims.paused or not options.partials,
        interims.rung.name.lower(),
    )
