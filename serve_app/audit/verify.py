"""Whether an audit log is as it was written: every line, their order, the ends of all chains."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from serve_app.audit.erasure import Ranges, erased_by
from serve_app.audit.folder import Head, Segment, heads, segments
from serve_app.audit.lines import START, BadLine, Line, Sums, decode_line
from serve_app.audit.retention import Gap, gaps_of

MAX_PROBLEMS = 100
"""Of one folder; a log with another key has one in each line."""


class End(StrEnum):
    """How a chain ends. `WRITING`: a process has it open. `RECORDED`: its process died, and a chain that
    began later names its end. `UNRECORDED`: none does yet: what was cut off behind its head is not seen."""

    CLOSED = "closed"
    WRITING = "writing"
    RECORDED = "recorded"
    UNRECORDED = "unrecorded"


@dataclass(slots=True)
class ChainReport:
    name: str
    num_lines: int = 0
    head: Head = Head("")
    end: End = End.UNRECORDED


@dataclass(slots=True)
class Report:
    """`problems` is empty for a log that is as it was written; `notes` is what an operator should know."""

    chains: list[ChainReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_erased: int = 0

    @property
    def num_lines(self) -> int:
        return sum(chain.num_lines for chain in self.chains)

    def problem(self, where: str, what: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{where}: {what}")


@dataclass(slots=True)
class _Chain:
    """What was read of one chain. `sums` are those of its lines, from number `first_n` on."""

    report: ChainReport
    first_segment: int = 0
    first_n: int = 0
    first_prev: str = START
    sums: list[bytes] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    is_damaged: bool = False

    def sum_at(self, n: int) -> str | None:
        index = n - self.first_n
        return self.sums[index].hex() if 0 <= index < len(self.sums) else None


def verify(folder: Path, key: bytes | None, kept_elsewhere: Iterable[Head] = ()) -> Report:
    """Read all of `folder`. `kept_elsewhere`: heads that were put where nobody could change them.

    Raises `OSError` where the folder cannot be read.
    """
    return _Verifier(folder, Sums(key)).run(kept_elsewhere)


class _Verifier:
    def __init__(self, folder: Path, sums: Sums) -> None:
        self._folder = folder
        self._sums = sums
        self._report = Report()
        self._chains: dict[str, _Chain] = {}
        self._gaps: dict[str, list[Gap]] = defaultdict(list)
        self._named: list[tuple[str, Head]] = []
        self._erasures: dict[str, Ranges] = defaultdict(list)

    def run(self, kept_elsewhere: Iterable[Head]) -> Report:
        # First, so that a head is never ahead of the lines that are read after it.
        found_heads = dict(heads(self._folder, self._sums))
        by_chain: dict[str, list[Segment]] = defaultdict(list)
        for segment in segments(self._folder):
            by_chain[segment.chain].append(segment)
        for name, its in by_chain.items():
            self._chains[name] = self._read(name, its)
        for chain in self._chains.values():
            self._check_beginning(chain)
            self._check_erased(chain)
        for name in found_heads.keys() | self._chains.keys():
            self._check_head(name, found_heads.get(name), name in found_heads)
        for where, head in self._named:
            self._check_named(where, head)
        for head in kept_elsewhere:
            self._check_named("a head kept elsewhere", head)
        self._check_ends(by_chain)
        self._report.chains = [chain.report for _, chain in sorted(self._chains.items())]
        return self._report

    def _read(self, name: str, its: list[Segment]) -> _Chain:
        chain = _Chain(ChainReport(name), first_segment=its[0].number)
        last: Line | None = None
        for index, segment in enumerate(its):
            if index and segment.number != its[index - 1].number + 1:
                self._report.problem(segment.path.name, f"segment {its[index - 1].number + 1} is missing")
                chain.is_damaged, last = True, None
            is_last = index + 1 == len(its)
            last = self._read_segment(chain, segment, last, is_last=is_last)
            if last is None:
                chain.is_damaged = True
            elif last.kind != "close" and not is_last:
                self._report.problem(segment.path.name, "has no closing line, and another segment follows")
        if last is not None:
            chain.report.head = Head(name, its[-1].number, last.n, last.hash)
            chain.report.end = End.CLOSED if last.kind == "close" else End.UNRECORDED
        return chain

    def _read_segment(
        self, chain: _Chain, segment: Segment, previous: Line | None, *, is_last: bool
    ) -> Line | None:
        """The last line, None where it is damaged. `previous`: the line before, None where that is."""
        if segment.path.stat().st_size == 0:
            self._report.problem(segment.path.name, "is empty: cut, or its process died as it began it")
            return None
        is_first_line = True
        for number, (_, data) in enumerate(segment.lines(), 1):
            where = f"{segment.path.name}, line {number}"
            if not data.endswith(b"\n"):
                if is_last and not is_first_line and segment.is_being_written():
                    break  # it is being written at this moment
                self._report.problem(where, "is not complete: cut, or its process died while it wrote")
                return None
            try:
                line = decode_line(self._sums, data[:-1])
                self._note(where, line)
            except BadLine as bad:
                if is_first_line and (other := self._other_key(data)) is not None:
                    self._report.problem(where, f"the segment was written with another key ({other})")
                    return None
                self._report.problem(where, str(bad))
                chain.is_damaged, previous, is_first_line = True, None, False
                continue
            self._check_order(where, chain, segment, line, previous, is_first_line)
            if not chain.sums:
                chain.first_n, chain.first_prev = line.n, line.prev
            chain.sums.append(bytes.fromhex(line.hash))
            chain.report.num_lines += 1
            if line.was_erased:
                chain.erased.append(line.n)
            previous, is_first_line = line, False
        return None if is_first_line else previous

    def _other_key(self, opening: bytes) -> str | None:
        """Which key a segment was written with, where it says so and it is not ours."""
        try:
            key = json.loads(opening)["key"]
        except (ValueError, KeyError, TypeError):
            return None
        return (str(key) or "none")[:8] if key != self._sums.key_id else None

    def _check_order(
        self, where: str, chain: _Chain, segment: Segment, line: Line, before: Line | None, is_first: bool
    ) -> None:
        opens = line.kind == "open"
        if is_first != opens:
            self._report.problem(where, "a segment begins with its opening line, and has no other")
        elif opens and (line.fields.get("chain"), line.fields.get("segment")) != (
            segment.chain,
            segment.number,
        ):
            self._report.problem(where, "this is the beginning of another segment")
        if before is None:
            return
        if line.n != before.n + 1 or line.prev != before.hash:
            chain.is_damaged = True
            self._report.problem(where, f"does not follow line {before.n} of its chain: it is line {line.n}")
        elif before.kind == "close" and not opens:
            self._report.problem(where, "follows the closing line of its segment")

    def _note(self, where: str, line: Line) -> None:
        match line.kind:
            case "open":
                for chain, n, total in line.fields.get("others", ()):
                    self._named.append((where, Head(str(chain), 0, int(n), str(total))))
            case "deleted":
                for gap in gaps_of(line):
                    self._gaps[gap.head.chain].append(gap)
            case "erased":
                for name, ranges in erased_by(line).items():
                    self._erasures[name] += ranges
            case "lost":
                self._report.notes.append(f"{where}: {line.fields.get('num_lines')} lines were lost")

    def _check_beginning(self, chain: _Chain) -> None:
        name = chain.report.name
        if not chain.sums:
            return
        if chain.first_segment == 1:
            if (chain.first_n, chain.first_prev) != (1, START):
                self._report.problem(name, "does not begin with its first line")
            return
        for gap in self._gaps[name]:
            follows = (gap.head.n + 1, gap.head.hash) == (chain.first_n, chain.first_prev)
            if follows and gap.head.segment == chain.first_segment - 1:
                return
        self._report.problem(
            name, f"segments before {chain.first_segment} are missing, and no line says they were deleted"
        )

    def _check_erased(self, chain: _Chain) -> None:
        name = chain.report.name
        ranges = self._erasures[name]
        self._report.num_erased += len(chain.erased)
        for n in chain.erased:
            if not any(first <= n <= last for first, last in ranges):
                self._report.problem(name, f"line {n} does not say who it was, and none says it was erased")
        named = sum(last - first + 1 for first, last in ranges)
        if named > len(chain.erased) and not self._gaps[name]:
            self._report.notes.append(f"{name}: an erasure was not finished; ask for it once more")

    def _check_head(self, name: str, head: Head | None, is_there: bool) -> None:
        chain = self._chains.get(name)
        if not is_there:
            if chain is not None and chain.report.num_lines > 1 and not chain.is_damaged:
                self._report.problem(name, "its head file is missing")
        elif head is None:
            self._report.problem(f"{name}.head", "is not what was written there")
        else:
            self._check_named(f"{name}.head", head)

    def _check_named(self, where: str, head: Head) -> None:
        """A line that was there when `head` was written is still there, or was deleted for its age."""
        chain = self._chains.get(head.chain)
        gone = [gap.head for gap in self._gaps[head.chain] if gap.head.n >= head.n]
        if any(gap.n > head.n or gap.hash == head.hash for gap in gone):
            return
        if chain is None:
            self._report.problem(
                where, f"names chain {head.chain} with {head.n} lines, of which nothing is left"
            )
        elif (total := chain.sum_at(head.n)) is None:
            if not chain.is_damaged or head.n > chain.report.head.n:
                self._report.problem(where, f"names line {head.n} of chain {head.chain}, which is missing")
        elif total != head.hash and not chain.is_damaged:
            self._report.problem(where, f"names another line {head.n} of chain {head.chain} than is there")

    def _check_ends(self, by_chain: dict[str, list[Segment]]) -> None:
        for name, chain in self._chains.items():
            report = chain.report
            if report.end is not End.UNRECORDED or chain.is_damaged:
                continue
            if by_chain[name][-1].is_being_written():
                report.end = End.WRITING
            elif any(head.chain == name and head.n == report.head.n for _, head in self._named):
                report.end = End.RECORDED
            else:
                self._report.notes.append(
                    f"{name}: has no closing line (its process died), and no later chain names its end yet"
                )


def read_lines(folder: Path, key: bytes | None) -> Iterator[tuple[str, Line]]:
    """Chain and line, of every line that can be read. Raises `OSError`."""
    sums = Sums(key)
    for segment in segments(folder):
        for _, data in segment.lines():
            try:
                yield segment.chain, decode_line(sums, data.rstrip(b"\n"))
            except BadLine:
                continue
