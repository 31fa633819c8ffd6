"""Small audio frames that come together, joined into one: pushing 3 ms costs as much as pushing 100."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

from serve_app.protocols.dialect import AudioInput, RawAudio

MAX_SMALL_BYTES: Final = 2048
"""21 ms of 16-bit samples at 48 kHz: several of them are read at once (`keepalive.GATHER_S`)."""

MAX_JOINED_BYTES: Final = 64 * 1024

Take = Callable[[bytes], Awaitable[None]]
"""Takes audio; waits while it is more than can be used."""


class FrameJoiner:
    """Passes frames on to `take` in their order.

    A small one waits for those that have been read with it, for no longer than the loop takes to come round.
    `flush` before anything that must come behind the audio.
    """

    def __init__(
        self,
        take: Take,
        unit_bytes: int,
        start: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
    ) -> None:
        """Frames that are not made of whole units are passed on alone, so that their fault stays theirs.
        `start` runs the task that passes on what was joined."""
        self._take = take
        self._unit_bytes = unit_bytes
        self._start = start
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self._passing_on: asyncio.Task[None] | None = None
        self.is_passing_on = False
        """Audio is on its way, or waits for room."""

    async def add(self, data: bytes) -> None:
        if not 0 < len(data) <= MAX_SMALL_BYTES or len(data) % self._unit_bytes:
            await self.flush()
            await self._take(data)
            return
        if self.is_passing_on or self._num_bytes >= MAX_JOINED_BYTES:
            await self.flush()
        self._parts.append(data)
        self._num_bytes += len(data)
        if self._passing_on is None or self._passing_on.done():
            self._passing_on = self._start(self._pass_on())

    async def flush(self) -> None:
        """Returns once all frames have been passed on."""
        if self.is_passing_on and self._passing_on is not None:
            await asyncio.wait([self._passing_on])
        await self._pass_on()

    async def _pass_on(self) -> None:
        if not self._parts:
            return
        data = b"".join(self._parts)
        self._parts, self._num_bytes = [], 0
        self.is_passing_on = True
        try:
            await self._take(data)
        finally:
            self.is_passing_on = False


def unit_bytes(audio: AudioInput) -> int:
    """What a frame must have whole numbers of; 1: frames may be cut anywhere."""
    return audio.frame_bytes if isinstance(audio, RawAudio) and audio.whole_samples else 1
