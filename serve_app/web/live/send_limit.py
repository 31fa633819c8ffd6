"""Text is held back from a client that rushes its audio through and may not be reading.

Python's websockets library stops reading a connection while 16 messages wait for the program. A program that
sends a whole recording before it reads anything then misses the server's pongs too, and its library gives
the connection up within 50 s (seen with websockets 17 and its defaults). Such a program is known by its
`User-Agent` and by sending faster than anyone speaks; it gets a few messages at once, and the others when it
pauses, flushes or ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

LIBRARY: Final = "websockets/"
MAX_MESSAGES: Final = 12
"""Four fewer than the library takes, for what is on its way when a rush is noticed."""

RUSHING_SPEED: Final = 1.25
"""Seconds of audio a second; up to this a client may catch up with its microphone."""
RUSHING_LEAD_S: Final = 1.0
MAX_LEAD_S: Final = 2.0
NOTICE_S: Final = 5.0
"""Messages sent so shortly before a rush was noticed count too."""
CHECK_S: Final = 0.1


class SendLimit:
    """What one client has sent ahead of time, and how much it was sent since: a leaky bucket of audio."""

    def __init__(self, user_agent: str, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._applies = LIBRARY in user_agent
        self._lead_s = 0.0
        self._counted_s = now_s()
        self._rushing = False
        self._sent_s: deque[float] = deque(maxlen=MAX_MESSAGES)
        self._released = asyncio.Event()

    def received(self, audio_s: float) -> None:
        """So much audio has come."""
        self._leak()
        self._lead_s = min(MAX_LEAD_S, self._lead_s + audio_s)
        self._rushing = self._rushing or self._lead_s > RUSHING_LEAD_S

    def sent(self) -> None:
        self._sent_s.append(self._now_s())

    def flushed(self) -> None:
        """The client wants its text now."""
        self._lead_s, self._rushing = 0.0, False

    def release(self) -> None:
        """No more audio comes: from now on it reads, or it is gone."""
        self._applies = False
        self._released.set()

    @property
    def holds(self) -> bool:
        if not self._applies:
            return False
        self._leak()
        if not self._rushing:
            while self._sent_s and self._sent_s[0] < self._now_s() - NOTICE_S:
                self._sent_s.popleft()
        return self._rushing and len(self._sent_s) >= MAX_MESSAGES

    async def until_free(self) -> None:
        while self.holds:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), CHECK_S)

    def _leak(self) -> None:
        now_s = self._now_s()
        self._lead_s = max(0.0, self._lead_s - RUSHING_SPEED * (now_s - self._counted_s))
        self._counted_s = now_s
        if self._lead_s == 0.0:
            self._rushing = False
