"""Where the commands write: results to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def note(line: str) -> None:
    """A progress line."""
    err.print(line, style="dim", markup=False)


def complain(line: str) -> None:
    """What went wrong, for a person."""
    err.print(f"error: {line}", style="red", markup=False)


def fail(line: str) -> NoReturn:
    complain(line)
    raise typer.Exit(2)


def plain(text: str) -> None:
    """A result exactly as it is, fit for a pipe."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()
