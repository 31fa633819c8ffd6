"""The store of jobs for an event loop: calls run in a few threads, its failures become one error of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import structlog

from serve_app.core.errors import JobsUnavailable
from serve_app.jobs.store import JobStore

log = structlog.get_logger(__name__)

T = TypeVar("T")

NUM_THREADS: Final = 4


class StoreThreads:
    """Opens the store with its first call, and again with a later one where that failed."""

    def __init__(self, open_store: Callable[[], JobStore]) -> None:
        """`open_store` blocks, and raises where there is no store."""
        self._open_store = open_store
        self._store: JobStore | None = None
        self._opening = asyncio.Lock()
        self._reason = ""
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="jobs")

    async def call(self, ask: Callable[[JobStore], T]) -> T:
        """What `ask` answers of the store. Raises `JobsUnavailable`."""
        store = self._store or await self._opened()
        try:
            answer = await self.run(lambda: ask(store))
            self._reason = ""
            return answer
        except store.failures as error:
            self._tell("the store of jobs does not answer", error)
            raise JobsUnavailable("the store of jobs does not answer") from error

    async def run(self, work: Callable[[], T]) -> T:
        """Blocking work of jobs in the same few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _opened(self) -> JobStore:
        async with self._opening:
            if self._store is None:
                try:
                    self._store = await self.run(self._open_store)
                except Exception as error:  # of a driver that is not imported here
                    self._tell("the store of jobs cannot be opened", error)
                    raise JobsUnavailable("the store of jobs cannot be opened") from error
            return self._store

    def _tell(self, what: str, error: Exception) -> None:
        """Once, however often it is tried again; only its kind, since its text may have a password in it."""
        reason = f"{what} ({type(error).__name__})"
        if reason != self._reason:
            self._reason = reason
            log.warning(what, error=type(error).__name__)

    async def close(self) -> None:
        if self._store is not None:
            await self.run(self._store.close)
        self._threads.shutdown(wait=False)
