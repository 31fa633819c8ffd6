"""The log file: several processes append to one, each by a thread of its own, and follow its rotation.

Every line is one write to a file opened for appending, which the kernel does not mix with another process's.
A path that no longer names the open file has been rotated: it is opened anew with the next line, in every
process, whether a signal told it or not.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

MAX_WAITING_LINES: Final = 10_000
"""Where the disk does not keep up, later lines are counted, not kept: speech waits for no log."""
_CLOSE_TIMEOUT_S: Final = 5.0
_MODE: Final = 0o640


class LogFile(logging.Handler):
    """Appends formatted records to `path`. Logging never blocks and never raises: lines that could not be
    written are counted, and the count is written once it can be."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._waiting: queue.Queue[str | threading.Event | None] = queue.Queue(MAX_WAITING_LINES)
        self._num_lost = 0
        self._fd: int | None = None
        self._thread = threading.Thread(target=self._run, name="log-file", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._num_lost += 1

    def reopen(self) -> None:
        """Returns once the file is open at its path again."""
        done = threading.Event()
        with suppress(queue.Full):
            self._waiting.put(done, timeout=_CLOSE_TIMEOUT_S)
            done.wait(_CLOSE_TIMEOUT_S)

    def flush(self) -> None:
        """Returns once what was logged so far is written."""
        self.reopen()

    def close(self) -> None:
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._waiting.put(None, timeout=_CLOSE_TIMEOUT_S)
            self._thread.join(_CLOSE_TIMEOUT_S)
        super().close()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if isinstance(item, threading.Event):
                self._close_file()
                with suppress(OSError):
                    self._open()
                item.set()
                continue
            try:
                self._write(item)
            except OSError:
                self._num_lost += 1
                self._close_file()
        self._close_file()

    def _write(self, line: str) -> None:
        self._open()
        assert self._fd is not None
        if self._num_lost:
            lost, self._num_lost = self._num_lost, 0
            os.write(self._fd, b'{"event":"log lines lost","level":"error","num_lines":%d}\n' % lost)
        os.write(self._fd, line.encode("utf-8", "backslashreplace") + b"\n")

    def _open(self) -> None:
        """Have the file open that the path names now. Raises `OSError`."""
        if self._fd is not None:
            ours = os.fstat(self._fd)
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
            self._close_file()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._fd = os.open(self._path, flags, _MODE)

    def _close_file(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
