"""A check of a model by itself, run while it has nothing else to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

IDLE_PERIOD_S = 60.0
"""Between checks of a model that is idle."""
BUSY_PERIOD_S = 600.0
"""Between checks of one that never is, though it has room: answers that go out are a sign of life too."""
MAX_FAILED = 2
"""So many in a row are no accident."""


class IdleCheck:
    """Runs `check`, which says in words what is wrong, "" if nothing is. Used from one event loop.

    `poll` never waits: it starts a check that is due and tells how those before it went.
    """

    def __init__(self, check: Callable[[], Awaitable[str]], clock: Callable[[], float] = monotonic) -> None:
        self._check = check
        self._clock = clock
        self._checked_s = clock()
        self._num_failed = 0
        self._complaint = ""
        self._task: asyncio.Task[None] | None = None

    def poll(self, *, idle: bool, has_room: bool, is_suspect: bool = False) -> str:
        """The fault, once `MAX_FAILED` checks in a row have failed, else "". `has_room`: a check would hold
        up nothing that waits; `is_suspect`: there is a reason to check at once."""
        age_s = self._clock() - self._checked_s
        is_due = is_suspect or self._num_failed > 0 or age_s >= (IDLE_PERIOD_S if idle else BUSY_PERIOD_S)
        if self._task is None and has_room and is_due:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return self._complaint if self._num_failed >= MAX_FAILED else ""

    async def _run(self) -> None:
        """The outermost shell of a check."""
        try:
            self._complaint = await self._check()
        except Exception as error:
            self._complaint = f"the check failed: {error}"
        self._num_failed = self._num_failed + 1 if self._complaint else 0
        self._checked_s = self._clock()
        self._task = None

    async def close(self) -> None:
        """Cancel a check that runs."""
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
