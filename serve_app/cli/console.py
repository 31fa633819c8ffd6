"""Where the commands write, and how they end.

Results go to standard output, everything else to standard error. The exit statuses are the same in every
command; Ctrl-C, SIGTERM and a closed pipe end it quietly.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `quiet_end`, for all commands alike."""
        raise


out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False, soft_wrap=True)


def note(line: str) -> None:
    """A progress line."""
    err.print(line, style="dim", markup=False)


def complain(line: str) -> None:
    """What went wrong, for a person."""
    err.print(f"error: {line}", style="red", markup=False)


def warn(line: str) -> None:
    """What is less than it could be, for a person."""
    err.print(f"warning: {line}", style="yellow", markup=False)


def fail(line: str) -> NoReturn:
    complain(line)
    raise typer.Exit(USAGE)


def in_words(error: Exception) -> str:
    """An error as a sentence; what Python says of a missing file has its number and its path in it."""
    match error:
        case FileNotFoundError():
            return "no such file"
        case IsADirectoryError():
            return "is a folder"
        case OSError(strerror=str(reason)):
            return reason
        case _:
            return str(error)


def plain(text: str) -> None:
    """A result exactly as it is, fit for a pipe."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def table(rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Aligned columns. In a terminal long cells go on below, elsewhere each row is one whole line.

    `styles`: of the first cell of each row.
    """
    if not out.is_terminal:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            plain("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    grid = Table(show_header=False, box=None)
    for _ in rows[0]:
        grid.add_column(overflow="fold")
    for row, style in zip(rows, styles or [""] * len(rows), strict=True):
        first, *others = (Text(cell) for cell in row)
        first.stylize(style)
        grid.add_row(first, *others)
    out.print(grid)


OK = 0
FAILED = 1
"""Something that was asked for is not there: a recording, a session, a model; the others are."""
USAGE = 2
"""The command line or a setting is wrong, and nothing was begun."""
DAMAGED = 3
"""Everything is there, but some of the audio could not be decoded."""
INTERRUPTED = 130
TERMINATED = 143
READER_LEFT = 141
"""Standard output was closed, as by `| head`."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which unwinds like Ctrl-C: the terminal gets its cursor back, temporary files go."""


class QuietGroup(TyperGroup):
    """Commands that end quietly."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with quiet_end():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with quiet_end():
            return super().invoke(ctx)


@contextmanager
def quiet_end() -> Iterator[None]:
    """Turn what ends the block from outside into `typer.Exit`."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if in_main else None
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if in_main:  # nothing is left that a second one could end
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise typer.Exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED) from None
    except BrokenPipeError:
        # What is still buffered would fail once more when Python flushes it at its end.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(READER_LEFT) from None
    if in_main:
        signal.signal(signal.SIGTERM, before)


def leave(status: int) -> NoReturn:
    """End the process. After a signal without what Python does at its end: a thread may wait for audio."""
    if status in (INTERRUPTED, TERMINATED):
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise Terminated
