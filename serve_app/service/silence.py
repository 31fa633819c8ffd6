"""Sessions that have asked a model and hear nothing: their clients are told, and told again when it goes on.

A replica that died or hangs is replaced, and no word is lost by it, but that takes from seconds to a minute:
a client that sees neither text nor error meanwhile cannot tell a slow server from one that forgot it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from serve_app.core.events import ModelStatus
from serve_app.service.live import Live

SILENCE_S = 5.0
LOOK_S = 1.0


@dataclass(slots=True)
class _Decodes:
    """How many answers a session waits for, since its last answer or its first question."""

    num: int
    since_s: float


class SilenceWatch:
    """Notes what one ingress replica's sessions ask and hear. `look` is called every second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._decodes: dict[Live, _Decodes] = {}
        self._listening: Collection[Live] = ()
        self._listening_since_s = 0.0
        self._told: dict[Live, float] = {}

    def asked(self, live: Live) -> None:
        """A decode was sent for this session."""
        decodes = self._decodes.get(live)
        if decodes is None:
            self._decodes[live] = _Decodes(1, self._clock())
        else:
            decodes.num += 1

    def answered(self, live: Live) -> None:
        """There is an answer to one of its decodes, or the last word that there will be none."""
        decodes = self._decodes[live]
        decodes.num -= 1
        decodes.since_s = self._clock()
        if not decodes.num:
            del self._decodes[live]
        self._settle(live)

    def listening(self, lives: Collection[Live]) -> None:
        """The voice detector was asked for these sessions: one call at a time."""
        self._listening, self._listening_since_s = lives, self._clock()

    def listened(self) -> None:
        """It has answered."""
        lives, self._listening = self._listening, ()
        if self._told:
            for live in lives:
                self._settle(live)

    def look(self) -> None:
        """Tell the sessions that have been waiting for `SILENCE_S`."""
        for live in (*self._decodes, *self._listening):
            since_s = self._waits_since_s(live)
            if live not in self._told and not live.session.ended and self._is_long_ago(since_s):
                self._told[live] = since_s
                self._tell(live, since_s, stalled=True)
        self._told = {live: since_s for live, since_s in self._told.items() if not live.session.ended}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def _settle(self, live: Live) -> None:
        """After an answer: what is still waited for may be another model's."""
        since_s = self._told.get(live)
        if since_s is not None and not self._is_long_ago(self._waits_since_s(live)):
            del self._told[live]
            self._tell(live, since_s, stalled=False)

    def _waits_since_s(self, live: Live) -> float:
        """Infinite where it waits for nothing."""
        decodes = self._decodes.get(live)
        decodes_s = math.inf if decodes is None else decodes.since_s
        return min(decodes_s, self._listening_since_s) if live in self._listening else decodes_s

    def _is_long_ago(self, since_s: float) -> bool:
        return since_s <= self._clock() - SILENCE_S

    def _tell(self, live: Live, since_s: float, *, stalled: bool) -> None:
        if not live.session.ended:
            live.apply([ModelStatus(stalled, live.session.received_samples, self._clock() - since_s)])
