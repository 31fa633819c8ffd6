"""The audit log as the service writes it: lines are handed over without waiting, a thread writes them.

A log that cannot be written stops no speech. It is loud instead: `on_failure` is called each time,
`is_failing` says so, lines wait in memory for the disk to come back, and those for which there was no room
are counted in a line of the log.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from serve_app.audit.chain import MAX_SEGMENT_BYTES, Chain, Now, utc_now
from serve_app.audit.lines import Fields, Sums
from serve_app.audit.retention import delete_expired

MAX_WAITING_LINES: Final = 10_000
RETRY_S: Final = 1.0
CLOSE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: str
    fields: Fields
    who: Fields | None
    at: datetime


class AuditLog:
    """Writes one chain into `folder`. `on_failure` is called in the thread that writes.

    Lines that come while others are being synced are written and synced together, so that one is on the disk
    after two syncs at most, and a crash of the machine loses no more.
    """

    def __init__(
        self,
        folder: Path,
        key: bytes | None = None,
        *,
        retention_days: int | None = None,
        on_failure: Callable[[Exception], None] = lambda error: None,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        max_waiting: int = MAX_WAITING_LINES,
        retry_s: float = RETRY_S,
        now: Now = utc_now,
    ) -> None:
        self.folder = folder
        self.sums = Sums(key)
        self._retention = None if retention_days is None else timedelta(days=retention_days)
        self._on_failure = on_failure
        self._max_segment_bytes = max_segment_bytes
        self._max_waiting = max_waiting
        self._retry_s = retry_s
        self._now = now
        self._waiting: deque[_Waiting] = deque()
        self._flushes: deque[threading.Event] = deque()
        self._wake = threading.Event()
        self._num_lost = 0
        self._is_closing = False
        self._chain: Chain | None = None
        self.is_failing = False
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    def append(self, kind: str, fields: Fields, who: Fields | None = None) -> None:
        """From any thread. Neither blocks nor raises."""
        if len(self._waiting) >= self._max_waiting:
            self._num_lost += 1
            return
        self._waiting.append(_Waiting(kind, fields, who, self._now()))
        self._wake.set()

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Whether all that was appended is on the disk now. Blocking."""
        if not self._thread.is_alive():
            return False
        done = threading.Event()
        self._flushes.append(done)
        self._wake.set()
        return done.wait(timeout_s) and not self.is_failing

    def close(self) -> None:
        """Writes what waits and the closing line. Blocking; may be called twice."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        self._try(self._begin)
        while not self._is_closing:
            self._wake.wait(self._retry_s if self.is_failing else None)
            self._wake.clear()
            flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
            self._try(self._write_waiting)
            for done in flushes:
                done.set()
        self._try(self._write_waiting)
        if self._chain is not None:
            self._try(self._chain.close)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is, lines wait and the service goes on
            self.is_failing = True
            self._on_failure(error)
        else:
            self.is_failing = False

    def _begin(self) -> None:
        if self._chain is None:
            self._chain = Chain(
                self.folder, self.sums, max_segment_bytes=self._max_segment_bytes, now=self._now
            )

    def _write_waiting(self) -> None:
        self._begin()
        chain = self._chain
        assert chain is not None
        if self._num_lost:
            lost, self._num_lost = self._num_lost, 0
            try:
                chain.append("lost", {"num_lines": lost})
            except OSError:
                self._num_lost += lost
                raise
        has_begun = False
        if not self._waiting:
            return
        while self._waiting:
            line = self._waiting[0]
            has_begun |= chain.append(line.kind, line.fields, line.who, line.at)
            self._waiting.popleft()
        chain.sync()
        if has_begun and self._retention is not None:
            delete_expired(self.folder, chain, self.sums, self._now() - self._retention)
            chain.sync()
