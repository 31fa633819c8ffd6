"""Why a connection ends, and the tasks any of which may say so."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final

from serve_app.core.errors import InvalidKey, SottoError
from serve_app.core.events import EndReason

NORMAL_CLOSE: Final = 1000
POLICY_CLOSE: Final = 1008
INTERNAL_CLOSE: Final = 1011
DRAIN_TIMEOUT_S: Final = 30.0
"""How long the sessions of a connection that we end may take to deliver what was spoken."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why we end a connection, and the close code that says so. `drop`: nothing more is decoded; else what
    has been spoken is, for up to `drain_s`. `error`: told to its client once the last text is out, before the
    session's end."""

    reason: EndReason
    close_code: int
    why: str = ""
    drop: bool = False
    error: SottoError | None = None
    drain_s: float = DRAIN_TIMEOUT_S


IDLE: Final = Ending(EndReason.TIMEOUT, NORMAL_CLOSE, "idle, or open for too long")
DONE: Final = Ending(EndReason.COMPLETED, NORMAL_CLOSE)
KEY_LOST: Final = Ending(
    EndReason.ERROR,
    POLICY_CLOSE,
    "the API key was revoked or has expired",
    error=InvalidKey("the API key was revoked or has expired"),
    drain_s=3.0,
)
"""A key that was revoked opens nothing within 5 s: a backlog of audio is not worked off."""
UNREAD: Final = Ending(EndReason.ERROR, POLICY_CLOSE, "too much was not read", drop=True)


class LiveTasks:
    """The first ending that is settled counts; a task that fails settles too."""

    def __init__(self) -> None:
        self._settled: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_settled(self) -> bool:
        return self._settled.done()

    def settle(self, ending: Ending | None) -> None:
        """None: the sessions have ended by themselves."""
        if not self._settled.done():
            self._settled.set_result(ending)

    @property
    def ending(self) -> Ending | None:
        """Why we end the connection, once that is settled; None: we do not."""
        done = self._settled.done() and self._settled.exception() is None
        return self._settled.result() if done else None

    def fail(self, error: BaseException) -> None:
        if not self._settled.done():
            self._settled.set_exception(error)
            self._settled.exception()  # looked at, should nothing wait for it any more

    async def wait(self) -> Ending | None:
        """Raises what a task failed with."""
        return await self._settled

    def start(self, work: Coroutine[None, None, None], name: str = "live") -> asyncio.Task[None]:
        """Run `work` until it ends or `cancel` comes."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel(self, *, but: tuple[str, ...] = ()) -> None:
        """End the tasks whose name is none of `but`."""
        tasks = [task for task in self._tasks if task.get_name() not in but]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)
