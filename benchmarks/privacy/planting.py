"""What is planted, and the search for it: in files, deleted files that are still open, and command lines."""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 1 << 20
MAX_NEEDLE_BYTES: Final = 256


def planted_words(kinds: Iterable[str]) -> dict[str, str]:
    """A word for each kind that stands nowhere else."""
    return {kind: f"{kind}{secrets.token_hex(8)}" for kind in kinds}


@dataclass(slots=True)
class Findings:
    """`hits`: where which kind was found, and how often."""

    num_files: int = 0
    num_bytes: int = 0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def __iadd__(self, other: Findings) -> Findings:
        self.num_files += other.num_files
        self.num_bytes += other.num_bytes
        self.hits += other.hits
        self.unreadable += other.unreadable
        return self


class Searcher:
    """Looks for `needles`, bytes by their kind, of at most `MAX_NEEDLE_BYTES`."""

    def __init__(self, needles: Mapping[str, bytes]) -> None:
        assert all(0 < len(needle) <= MAX_NEEDLE_BYTES for needle in needles.values())
        self._needles = dict(needles)

    def data(self, where: str, data: bytes) -> Findings:
        return self._blocks(where, iter([data]))

    def file(self, path: Path, where: str | None = None) -> Findings:
        try:
            with path.open("rb") as file:
                return self._blocks(where or str(path), iter(lambda: file.read(BLOCK_BYTES), b""))
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            return Findings(unreadable=[] if gone else [f"{where or path}: {error.strerror}"])

    def tree(self, folder: Path, *, since_s: float = 0.0, but: Iterable[Path] = ()) -> Findings:
        """All files in it that were changed at or after `since_s`; neither links nor sockets are followed."""
        found, spared = Findings(), set(but)
        for root, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if Path(root, name) not in spared]
            for path in (Path(root, name) for name in names):
                with suppress(OSError):
                    if path.is_symlink() or not path.is_file() or path.stat().st_mtime < since_s:
                        continue
                    found += self.data(f"name of {path.parent}", path.name.encode())
                    found += self.file(path)
        return found

    def processes(self, pids: Iterable[int]) -> Findings:
        """Their command lines, and their open files that have no name any more."""
        found = Findings()
        for pid in pids:
            proc = Path(f"/proc/{pid}")
            with suppress(OSError):
                found += self.data(f"command line of {pid}", (proc / "cmdline").read_bytes())
            for path in _entries(proc / "fd"):
                target = ""
                with suppress(OSError):
                    target = os.readlink(path)
                if target.endswith("(deleted)") and path.is_file():
                    found += self.file(path, f"open file of {pid}: {target}")
        return found

    def _blocks(self, where: str, blocks: Iterator[bytes]) -> Findings:
        found, tail = Findings(num_files=1), b""
        for block in blocks:
            found.num_bytes += len(block)
            data = tail + block
            for kind, needle in self._needles.items():
                # What lay in the tail as a whole was counted with the block before.
                if num := data.count(needle) - tail.count(needle):
                    found.hits[where, kind] += num
            tail = data[-(MAX_NEEDLE_BYTES - 1) :]
        return found


def is_memory(where: str) -> bool:
    """Whether a place is memory that processes share: an open file of `/dev/shm` that has no name left."""
    return re.fullmatch(r"open file of \d+: /dev/shm/\S+ \(deleted\)", where) is not None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
