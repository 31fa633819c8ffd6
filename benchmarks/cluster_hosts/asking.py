"""The parent's end of the console on the head: one question and its answer at a time."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.cluster_hosts.network import NetHost
from serve_app.launch.cluster import SOURCE_DIR

START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 120.0
MODULE = "benchmarks.cluster_hosts.console"


class HostsError(RuntimeError):
    """The cluster did not come up or did not answer; the message says what was seen."""


class Console:
    """A process on the head that asks Ray and Serve for us; may be used from several threads."""

    def __init__(self, head: NetHost, gcs_address: str, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._turn = threading.Lock()
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                head.command(sys.executable, "-m", MODULE, gcs_address),
                env=dict(environment),
                cwd=SOURCE_DIR,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def wait_ready(self) -> None:
        """Raises `HostsError`."""
        self._read(START_TIMEOUT_S)

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer. Raises `HostsError`."""
        assert self._process.stdin is not None
        with self._turn:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
            return self._read(ANSWER_TIMEOUT_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _read(self, timeout_s: float) -> Any:
        output = self._process.stdout
        assert output is not None
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                raise HostsError(f"the console did not answer within {timeout_s:.0f} s")
        line = output.readline()
        if not line:
            raise HostsError(f"the console ended:\n{end_of(self._log)}")
        message = json.loads(line)
        if "error" in message:
            raise HostsError(message["error"])
        return message["answer"]


def end_of(log: Path, num_lines: int = 25) -> str:
    """The last lines of a log, empty where there is none."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-num_lines:]) if log.is_file() else ""
