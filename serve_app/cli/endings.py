"""Ctrl-C, SIGTERM and a reader that leaves end every command quietly, with the statuses that shells know."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from serve_app.cli.exit_codes import INTERRUPTED, READER_LEFT, TERMINATED


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
