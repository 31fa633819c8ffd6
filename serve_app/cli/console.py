"""Where the commands write: results to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve_app.cli.exit_codes import USAGE


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `endings`, for all commands alike."""
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
