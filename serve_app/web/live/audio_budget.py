"""The audio that a live connection may still send, of what its key and its address may use."""

from __future__ import annotations

import asyncio
from typing import Final

from serve_app.access.limits import Usage
from serve_app.core.errors import LimitReached

BLOCK_S: Final = 2.0
"""Audio is charged ahead, in steps of this: what is left of the last one is not given back."""
MAX_HELD_S: Final = 5.0
"""How long a connection is held back, in all, for a minute's limit to have room again."""
RETRY_S: Final = 0.5


class AudioBudget:
    """Asks for more whenever what was charged is used up; asks nobody where audio is not limited."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._is_limited = usage.limits_audio
        self._left_s = 0.0
        self._held_s = 0.0
        self._asking = asyncio.Lock()
        self._spent = False

    async def covers(self, audio_s: float) -> bool:
        """Whether so much more may be used; False once there was no more.

        Raises `LimitReached`, once, where there is no more; what came before it was paid for.
        """
        if not self._is_limited:
            return True
        async with self._asking:  # a connection's channels come one after another
            if self._spent:
                return False
            if audio_s > self._left_s:
                await self._charge(audio_s - self._left_s)
            self._left_s -= audio_s
            return True

    async def _charge(self, missing_s: float) -> None:
        block_s = -(-missing_s // BLOCK_S) * BLOCK_S
        while True:
            try:
                await self._usage.audio(block_s)
            except LimitReached as error:
                retry_s = min(RETRY_S, MAX_HELD_S - self._held_s)
                if error.retry_after_s is None or error.retry_after_s > MAX_HELD_S or retry_s <= 0:
                    self._spent = True
                    raise
                self._held_s += retry_s
                await asyncio.sleep(retry_s)
            except BaseException:
                self._spent = True
                raise
            else:
                self._left_s += block_s
                return
