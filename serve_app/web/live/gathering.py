"""Small frames of one moment as one: a piece of audio costs the same, be it 3 ms or 100."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

from serve_app.protocols.dialect import AudioInput, RawAudio

MAX_SMALL_BYTES: Final = 1024
"""10 ms of 16-bit samples at 48 kHz."""

MAX_GATHERED_BYTES: Final = 64 * 1024

Give = Callable[[bytes], Awaitable[None]]
"""Takes audio; waits while it is more than can be used."""


class Gathering:
    """Passes frames on to `give` in their order.

    A small one waits for those that have been read with it, for no longer than the loop takes to come round.
    Whoever needs everything passed on awaits `done`.
    """

    def __init__(
        self,
        give: Give,
        unit_bytes: int,
        start: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
    ) -> None:
        """Frames that are not made of whole units are passed on alone, so that their fault stays theirs.
        `start` runs what passes the gathered on."""
        self._give = give
        self._unit_bytes = unit_bytes
        self._start = start
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self._passing_on: asyncio.Task[None] | None = None
        self.is_giving = False
        """Audio is on its way, or waits for room."""

    async def take(self, data: bytes) -> None:
        if not 0 < len(data) <= MAX_SMALL_BYTES or len(data) % self._unit_bytes:
            await self.done()
            await self._give(data)
            return
        if self.is_giving or self._num_bytes >= MAX_GATHERED_BYTES:
            await self.done()
        self._parts.append(data)
        self._num_bytes += len(data)
        if self._passing_on is None or self._passing_on.done():
            self._passing_on = self._start(self._pass_on())

    async def done(self) -> None:
        """Everything taken has been passed on."""
        if self.is_giving and self._passing_on is not None:
            await asyncio.wait([self._passing_on])
        await self._pass_on()

    async def _pass_on(self) -> None:
        if not self._parts:
            return
        data = b"".join(self._parts)
        self._parts, self._num_bytes = [], 0
        self.is_giving = True
        try:
            await self._give(data)
        finally:
            self.is_giving = False


def unit_bytes(audio: AudioInput) -> int:
    """What a frame must have whole numbers of; 1: frames may be cut anywhere."""
    return audio.frame_bytes if isinstance(audio, RawAudio) and audio.whole_samples else 1
