"""Erasing who it was from lines of the audit log, on request, so that the chain still verifies.

Time, door, outcome and sizes stay: they are no personal data once it cannot be said whose. A line in the
chain of the process that erased says which lines they were.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from serve_app.audit.folder import segments
from serve_app.audit.lines import BadLine, Fields, Line, Sums, decode_line, erasing

Ranges: TypeAlias = list[tuple[int, int]]
"""First and last numbers of lines."""

Wanted: TypeAlias = Callable[[Fields], bool]
"""Whether a line with this `who` is to be erased."""

Append: TypeAlias = Callable[[str, Fields], None]
"""Writes a line of a kind into a chain; returns once it is on the disk."""


def erase(folder: Path, sums: Sums, wanted: Wanted, append: Append) -> int:
    """Erase `who` from every line that `wanted` picks; how many. Raises `OSError`.

    The line that says so is written first: should the process die in between, `verify` says that the erasure
    was not finished, instead of taking it for forgery. Overwrites in place, also segments that are being
    written.
    """
    found: dict[str, list[int]] = defaultdict(list)
    places: list[tuple[Path, int, bytes]] = []
    for segment in segments(folder):
        for offset, data in segment.lines():
            try:
                line = decode_line(sums, data.rstrip(b"\n"))
                if line.who is None or not wanted(line.who):
                    continue
                start, nothing = erasing(data.rstrip(b"\n"))
            except BadLine:
                continue
            found[segment.chain].append(line.n)
            places.append((segment.path, offset + start, nothing))
    if not places:
        return 0
    append("erased", {"lines": {chain: _ranges(numbers) for chain, numbers in found.items()}})
    for path, offset, nothing in places:
        fd = os.open(path, os.O_WRONLY)  # not for appending: such a write goes to the end
        try:
            os.pwrite(fd, nothing, offset)
            os.fsync(fd)
        finally:
            os.close(fd)
    return len(places)


def erased_by(line: Line) -> Mapping[str, Ranges]:
    """What a line of kind `erased` says. Raises `BadLine`."""
    try:
        return {
            str(chain): [(int(first), int(last)) for first, last in ranges]
            for chain, ranges in line.fields["lines"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadLine("does not say what was erased") from None


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for n in numbers:
        if ranges and ranges[-1][1] == n - 1:
            ranges[-1][1] = n
        else:
            ranges.append([n, n])
    return ranges
