"""One chain as one process writes it. Blocking: the service does so in a thread (`log.py`)."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from serve_app.audit.folder import Head, heads, segment_path, write_head
from serve_app.audit.lines import START, Fields, Sums, encode_line

MAX_SEGMENT_BYTES: Final = 16 * 1024 * 1024
MAX_OTHERS: Final = 256
"""Other chains that a segment's first line names, the newest."""
_MODE: Final = 0o600

Now = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Chain:
    """Appends lines; begins a new segment where one is full, or with a new day (UTC).

    Every method raises `OSError`; what was not written then is not part of the chain, and may be tried again.
    """

    def __init__(
        self,
        folder: Path,
        sums: Sums,
        *,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        now: Now = utc_now,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._sums = sums
        self._max_segment_bytes = max_segment_bytes
        self._now = now
        self.name = f"{now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        self._fd: int | None = None
        self._segment = 0
        self._num_bytes = 0
        self._day = ""
        self._is_ended = False
        self._n = 0
        self._hash = START

    @property
    def head(self) -> Head:
        return Head(self.name, self._segment, self._n, self._hash)

    def append(
        self, kind: str, fields: Fields, who: Fields | None = None, at: datetime | None = None
    ) -> bool:
        """Whether a new segment was begun for it."""
        at = at or self._now()
        is_full = self._is_ended or self._num_bytes >= self._max_segment_bytes
        begins = self._fd is None or is_full or f"{at:%Y%m%d}" > self._day
        if begins:
            self._end_segment("rotated")
            self._begin_segment()
        self._write(kind, fields, who, at)
        return begins

    def sync(self) -> None:
        """What was appended is on the disk, and the head says so."""
        if self._fd is not None:
            os.fsync(self._fd)
            write_head(self._folder, self.head, self._sums)

    def close(self, reason: str = "stopped") -> None:
        self._end_segment(reason)

    def _begin_segment(self) -> None:
        number = self._segment + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        path = segment_path(self._folder, self.name, number)
        fd = os.open(path, flags, _MODE)
        self._fd, self._num_bytes, self._is_ended = fd, 0, False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            now = self._now()
            self._day = f"{now:%Y%m%d}"
            self._write("open", self._opening(number), None, now)
        except OSError:
            self._fd = None
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        self._segment = number

    def _opening(self, number: int) -> dict[str, Any]:
        """What a segment begins with: where all other chains of the folder stand, so that these cannot lose
        their ends, or vanish, unseen."""
        others = [head for name, head in heads(self._folder, self._sums) if head and name != self.name]
        newest = [[head.chain, head.n, head.hash] for head in others[-MAX_OTHERS:]]
        return {"chain": self.name, "segment": number, "key": self._sums.key_id, "others": newest}

    def _end_segment(self, reason: str) -> None:
        if self._fd is None:
            return
        if not self._is_ended:
            self._write("close", {"reason": reason}, None, self._now())
            self._is_ended = True
        self.sync()
        os.close(self._fd)
        self._fd = None

    def _write(self, kind: str, fields: Fields, who: Fields | None, at: datetime) -> None:
        assert self._fd is not None
        line, total = encode_line(self._sums, self._n + 1, stamp(at), kind, fields, self._hash, who)
        # What an earlier failure has left of a line; where there is none, nothing happens.
        os.ftruncate(self._fd, self._num_bytes)
        left = memoryview(line)
        while left:
            left = left[os.write(self._fd, left) :]
        self._num_bytes += len(line)
        self._n += 1
        self._hash = total
