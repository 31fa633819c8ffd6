"""Which part of a running service a process is, and what it holds in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_REPLICA = re.compile(r"ServeReplica:[^:]*:([^.\s]+)")
_KINDS = (
    ("ServeController", "controller"),
    ("HAProxyManager", "haproxy manager"),
    ("ProxyActor", "proxy actor"),
    ("bin/haproxy", "haproxy"),
    ("gcs_server", "gcs"),
    ("raylet/raylet", "raylet"),
    ("RuntimeEnvAgent", "agents"),
    ("DashboardAgent", "agents"),
    ("dashboard/dashboard.py", "agents"),
    ("log_monitor", "log monitor"),
    ("monitor.py", "monitor"),
    ("launch.keeper", "keeper"),
    ("ray::", "ray workers"),
)
_LIBRARIES = {"libtorch_cpu": "torch", "libctranslate2": "ctranslate2", "onnxruntime": "onnxruntime"}
"""Part of a shared library's name to what it belongs to."""


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """One process: `kind` as `kind_of` names it, the model libraries that it has loaded."""

    pid: int
    kind: str
    rss_bytes: int
    libraries: tuple[str, ...]


def kind_of(command: str) -> str | None:
    """What a process is by its command line; replicas by their deployment's name. None: not ours."""
    if match := _REPLICA.search(command):
        return match[1]
    return next((kind for part, kind in _KINDS if part in command), None)


def running_processes() -> Iterator[ProcessMemory]:
    """Every process on this machine that belongs to a service, or to any Ray, and that may be looked at."""
    for process in psutil.process_iter():
        try:
            kind = kind_of(" ".join(process.cmdline()) or process.name())
            if kind is not None:
                yield ProcessMemory(
                    process.pid, kind, process.memory_info().rss, loaded_libraries(process.pid)
                )
        except psutil.Error:
            continue


def loaded_libraries(pid: int) -> tuple[str, ...]:
    """Which of the model libraries a process has mapped (Linux; elsewhere none are seen)."""
    try:
        mapped = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ()
    return tuple(name for part, name in _LIBRARIES.items() if part in mapped)
