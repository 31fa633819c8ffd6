"""What is said by the clock while a session is open: heartbeats, and how busy the service is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serve_app.protocols.dialect import Dialect, Load
from serve_app.web.door import Door
from serve_app.web.live.channels import Channels
from serve_app.web.live.outbox import COALESCE_BYTES, Outbox


async def pulse(
    dialect: Dialect, channels: Channels, door: Door, outbox: Outbox, said_s: Callable[[], float]
) -> None:
    """Runs as long as it is let; `said_s` tells when a frame of ours was last sent.

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
            if now_s() >= max(beat_s, said_s()) + heartbeat_s:
                beat_s = now_s()
                outbox.put_frames(dialect.heartbeat(channels.received_ms))
            wake_s.append(max(beat_s, said_s()) + heartbeat_s)
        await asyncio.sleep(max(0.0, min(wake_s) - now_s()))


def _load(channels: Channels, door: Door) -> Load:
    interims, options = door.service.status().interims, channels.options
    return Load(
        interims.level,
        round(options.partial_interval_ms * interims.slowdown),
        options.max_partial_window_ms / 1000 * interims.window_share,
        interims.paused or not options.partials,
    )
