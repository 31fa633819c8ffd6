"""Deleting what is older than it may be kept, so that the rest still verifies.

A deleted beginning of a chain leaves a line in the chain of who deleted it: up to which segment, and number
and sum of its last line. Such lines that are deleted in their turn are carried over.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from serve_app.audit.chain import Chain
from serve_app.audit.folder import Head, Segment, head_path, segments
from serve_app.audit.lines import BadLine, Line, Sums, decode_line

_LOCK: Final = ".retention"


@dataclass(frozen=True, slots=True)
class Gap:
    """Segments of a chain up to `head.segment` are gone; `head` was the end of the last of them. `is_whole`:
    nothing of the chain was left."""

    head: Head
    is_whole: bool = False

    def to_list(self) -> list[Any]:
        return [self.head.chain, self.head.segment, self.head.n, self.head.hash, self.is_whole]


def gaps_of(line: Line) -> Iterator[Gap]:
    """What a line of kind `deleted` says. Raises `BadLine`."""
    try:
        for chain, segment, n, total, is_whole in line.fields["gaps"]:
            yield Gap(Head(str(chain), int(segment), int(n), str(total)), bool(is_whole))
    except (KeyError, TypeError, ValueError):
        raise BadLine("does not say what was deleted") from None


def delete_expired(folder: Path, chain: Chain, sums: Sums, before: datetime) -> int:
    """Delete segments whose last line was written before `before`, and say so in `chain`; how many.

    What is damaged, and what is being written, stays. Of several processes one does it. Raises `OSError`.
    """
    fd = os.open(folder / _LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _delete(folder, chain, sums, before)
    except BlockingIOError:
        return 0
    finally:
        os.close(fd)


def _delete(folder: Path, chain: Chain, sums: Sums, before: datetime) -> int:
    by_chain: dict[str, list[Segment]] = defaultdict(list)
    for segment in segments(folder):
        by_chain[segment.chain].append(segment)
    doomed: list[Segment] = []
    gaps: dict[str, Gap] = {}
    for name, its in by_chain.items():
        if name == chain.name:
            continue
        for index, segment in enumerate(its):
            last, carried = _read(segment, sums)
            if last is None or _written(last) >= before or segment.is_being_written():
                break
            doomed.append(segment)
            for gap in carried:
                gaps.setdefault(gap.head.chain, gap)
            is_whole = index + 1 == len(its)
            gaps[name] = Gap(Head(name, segment.number, last.n, last.hash), is_whole)
    if not doomed:
        return 0
    chain.append("deleted", {"reason": "retention", "gaps": [gap.to_list() for gap in gaps.values()]})
    chain.sync()
    for segment in doomed:
        segment.path.unlink(missing_ok=True)
    for name, gap in gaps.items():
        if gap.is_whole:
            head_path(folder, name).unlink(missing_ok=True)
    return len(doomed)


def _read(segment: Segment, sums: Sums) -> tuple[Line | None, list[Gap]]:
    """A segment's last line, None where it is damaged, and what it says was deleted."""
    last, gaps = None, list[Gap]()
    try:
        for _, data in segment.lines():
            last = decode_line(sums, data.rstrip(b"\n"))
            if last.kind == "deleted":
                gaps += gaps_of(last)
    except BadLine:
        return None, []
    return last, gaps


def _written(line: Line) -> datetime:
    return datetime.fromisoformat(str(line.fields["t"]))
