"""The files of an audit log: segments and heads, by their names."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from serve_app.audit.lines import START, BadLine, Sums

_SEGMENT: Final = re.compile(r"(\d{8}T\d{6}Z-[0-9a-f]{8})\.(\d{6})\.jsonl")
_HEAD: Final = re.compile(r"(\d{8}T\d{6}Z-[0-9a-f]{8})\.head")
MAX_HEAD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """How far a chain had come: its last line's number and sum, in which segment."""

    chain: str
    segment: int = 0
    n: int = 0
    hash: str = START


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    chain: str
    number: int
    path: Path

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line's offset and its bytes with the newline, which the last may lack."""
        offset = 0
        with self.path.open("rb") as file:
            for data in file:
                yield offset, data
                offset += len(data)

    def is_being_written(self) -> bool:
        """Whether a process has it open for appending."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False


def segment_path(folder: Path, chain: str, number: int) -> Path:
    return folder / f"{chain}.{number:06d}.jsonl"


def head_path(folder: Path, chain: str) -> Path:
    return folder / f"{chain}.head"


def segments(folder: Path) -> list[Segment]:
    """All segments, by chain and number. Raises `OSError`."""
    found = []
    for path in folder.iterdir():
        if match := _SEGMENT.fullmatch(path.name):
            found.append(Segment(match[1], int(match[2]), path))
    return sorted(found)


def heads(folder: Path, sums: Sums) -> Iterator[tuple[str, Head | None]]:
    """Chains and their heads; None: the file is not what was written there. Raises `OSError`."""
    for path in sorted(folder.iterdir()):
        if match := _HEAD.fullmatch(path.name):
            try:
                yield match[1], read_head(path, match[1], sums)
            except BadLine:
                yield match[1], None


def write_head(folder: Path, head: Head, sums: Sums) -> None:
    """In one step: a reader sees the old one or the new one. Raises `OSError`."""
    body = json.dumps(asdict(head), separators=(",", ":"))
    path = head_path(folder, head.chain)
    new = path.with_suffix(".head.new")
    new.write_text(json.dumps({"head": body, "sum": sums.of(body.encode())}) + "\n")
    os.replace(new, path)


def read_head(path: Path, chain: str, sums: Sums) -> Head:
    """Raises `BadLine` for another's, or one with a wrong sum, and `OSError`."""
    try:
        with path.open("rb") as file:
            outer = json.loads(file.read(MAX_HEAD_BYTES))
        body, total = str(outer["head"]), str(outer["sum"])
        head = Head(**json.loads(body))
    except (ValueError, TypeError, KeyError):
        raise BadLine("is no head of a chain") from None
    if sums.of(body.encode()) != total or head.chain != chain:
        raise BadLine("does not have the sum that it carries")
    return head
