"""The door's side of a live session without a door: what the session tells, kept in order."""

from __future__ import annotations

import asyncio

from serve_app.core.events import Event, SessionEnded
from serve_app.service.contract import LiveSession


class ToldEvents(list[Event]):
    """The events so far of a session that was started with it."""

    def __init__(self, session: LiveSession) -> None:
        super().__init__()
        self._ended = asyncio.Event()
        session.start(self._tell)

    def _tell(self, event: Event) -> None:
        self.append(event)
        if isinstance(event, SessionEnded):
            self._ended.set()

    async def until_ended(self) -> list[Event]:
        await self._ended.wait()
        return self
