"""A Dockerfile as data, and which files of a checkout its `.dockerignore` lets into the build.

Only what our own files use: continuation lines, comments, stages, no here-documents.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Instruction:
    """`flags` are the leading --name=value words, by name; `value` is the rest, on one line."""

    keyword: str
    flags: dict[str, str]
    value: str
    line: int

    @property
    def copied(self) -> list[str]:
        """What it takes from the checkout: nothing where it is no COPY, or copies from another stage."""
        return self.value.split()[:-1] if self.keyword == "COPY" and "from" not in self.flags else []

    @property
    def default(self) -> tuple[str, str]:
        """The name of an ARG and what it is where it is not given."""
        name, _, value = self.value.partition("=")
        return name, value.strip('"')


@dataclass(frozen=True, slots=True)
class Stage:
    """`base` is an image or an earlier stage, its variables filled in."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def values(self, keyword: str) -> list[str]:
        return [item.value for item in self.instructions if item.keyword == keyword]


class DockerfileError(ValueError):
    """A line that this reader does not know; the message names it."""


def parse_dockerfile(text: str) -> tuple[Stage, ...]:
    """The stages in order. Raises `DockerfileError`."""
    defaults: dict[str, str] = {}
    stages: list[tuple[str, str, list[Instruction]]] = []
    for instruction in _instructions(text):
        if instruction.keyword == "FROM":
            base, _, name = re.sub(r"(?i) as ", " as ", instruction.value).partition(" as ")
            stages.append((name.strip() or str(len(stages)), expand(base.strip(), defaults), []))
        elif stages:
            stages[-1][2].append(instruction)
        elif instruction.keyword == "ARG":
            name, value = instruction.default
            defaults[name] = value
        else:
            raise DockerfileError(f"line {instruction.line}: {instruction.keyword} before any FROM")
    return tuple(Stage(name, base, tuple(items)) for name, base, items in stages)


def lineage(stages: Sequence[Stage], name: str) -> list[Stage]:
    """The stage and those it is made from, the oldest first; what is only copied from is not among them."""
    by_name = {stage.name: stage for stage in stages}
    found: list[Stage] = []
    while name in by_name:
        found.insert(0, by_name[name])
        name = by_name[name].base
    return found


def environment(stages: Iterable[Stage], given: dict[str, str]) -> dict[str, str]:
    """What ENV sets in these stages, oldest first, over the variables in `given`."""
    values = dict(given)
    for stage in stages:
        for instruction in stage.instructions:
            if instruction.keyword == "ARG":
                values.setdefault(*instruction.default)
            elif instruction.keyword == "ENV":
                pairs = [word.partition("=") for word in shlex.split(instruction.value)]
                values |= {name: expand(value, values) for name, _, value in pairs}
    return values


def expand(text: str, variables: dict[str, str]) -> str:
    """$NAME and ${NAME} filled in; empty where there is no such variable."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)


def _instructions(text: str) -> Iterator[Instruction]:
    pending, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first = first if pending else number
        if line.rstrip().endswith("\\"):
            pending += line.rstrip()[:-1]
            continue
        yield _instruction(pending + line, first)
        pending = ""
    if pending:
        raise DockerfileError(f"line {first}: the last line goes on")


def _instruction(text: str, line: int) -> Instruction:
    found = re.fullmatch(r"\s*([A-Z]+)\s+((?:--\S+\s+)*)(.*)", text, re.DOTALL)
    if found is None:
        raise DockerfileError(f"line {line}: {text.strip()!r} is no instruction")
    flags = [flag.lstrip("-").partition("=") for flag in found[2].split()]
    return Instruction(found[1], {name: value for name, _, value in flags}, found[3].strip(), line)


def sent_to_build(patterns: str, files: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """Which of `files` a `.dockerignore` of these lines lets through; the last line that matches decides."""
    lines = [line.strip() for line in patterns.splitlines()]
    rules = [
        (line.lstrip("!").strip("/"), line.startswith("!"))
        for line in lines
        if line and not line.startswith("#")
    ]
    return [file for file in files if _is_let_through(file, rules)]


def _is_let_through(file: PurePosixPath, rules: Sequence[tuple[str, bool]]) -> bool:
    here = True
    for pattern, back_in in rules:
        if any(_matches(part, pattern) for part in (file, *file.parents)):
            here = back_in
    return here


def _matches(path: PurePosixPath, pattern: str) -> bool:
    """As Docker does it: `*` stays within one folder, a leading `**/` means any depth, none included."""
    if pattern.startswith("**/"):
        rest = pattern.removeprefix("**/")
        return any(_matches(PurePosixPath(*path.parts[start:]), rest) for start in range(len(path.parts)))
    wanted = pattern.split("/")
    return len(wanted) == len(path.parts) and all(map(fnmatchcase, path.parts, wanted))


def among(files: Iterable[PurePosixPath], source: str) -> list[PurePosixPath]:
    """Which of `files` a COPY of `source` takes: that file, or all below that folder."""
    wanted = PurePosixPath(source)
    return [file for file in files if file == wanted or wanted in file.parents]


def files_of(folder: Path) -> Iterator[PurePosixPath]:
    """Every file under `folder`, relative to it, except in environments and Git's own folder."""
    for found in sorted(folder.iterdir()):
        if found.is_dir() and not found.is_symlink():
            if found.name not in (".git", ".venv", "node_modules"):
                yield from (PurePosixPath(found.name) / below for below in files_of(found))
        else:
            yield PurePosixPath(found.name)
