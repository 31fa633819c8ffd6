"""A client that goes quiet in the middle of speech: its audio stops coming, no silence is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Quiet:
    """Calls `flush` once after audio, when no more has come for `patience_s`."""

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
