"""The processes of one running instance: found, named by what they do, measured and ended.

Ray's own children die with their parent, but HAProxy is a grandchild that survives when its actor is killed,
and Ray's workers outlive a `kill -9` by seconds. All of them can be told by the instance's runtime folder: in
the command line (HAProxy, gcs, raylet), as the folder of a log that they hold open (workers and agents
overwrite their command line and environment with their title), or in the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


def processes_of(runtime_dir: Path, *, spare: Iterable[int] = ()) -> list[psutil.Process]:
    """Living processes of this user that belong to the instance, but not those in `spare` nor the caller."""
    spared = {os.getpid(), *spare}
    uid = os.getuid()
    found: list[psutil.Process] = []
    others: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.pid in spared or process.uids().real != uid:
                continue
            if _belongs(process, str(runtime_dir)):
                found.append(process)
            else:
                others[process.pid] = process
        except psutil.Error:
            continue
    return found + _children(found, others)


def _children(found: list[psutil.Process], others: dict[int, psutil.Process]) -> list[psutil.Process]:
    """Those of `others` that were started by one of `found`: in strict privacy a worker does not show what it
    has open."""
    parents = {}
    for pid, process in others.items():
        try:
            parents[pid] = process.ppid()
        except psutil.Error:
            continue
    known = {process.pid for process in found}
    children: list[psutil.Process] = []
    while new := [pid for pid, parent in parents.items() if parent in known and pid not in known]:
        known |= set(new)
        children += [others[pid] for pid in new]
    return children


def _belongs(process: psutil.Process, runtime_dir: str) -> bool:
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    prefix = runtime_dir + os.sep
    if any(prefix in argument for argument in process.cmdline()):
        return True
    return any(path.startswith(prefix) for path in _open_files(process)) or any(
        prefix in value for value in _environment(process)
    )


def _open_files(process: psutil.Process) -> list[str]:
    """Paths that the process holds open, deleted ones too where the system tells them."""
    folder = Path(f"/proc/{process.pid}/fd")
    if not folder.is_dir():
        return [opened.path for opened in process.open_files()]
    paths = []
    try:
        for entry in os.scandir(folder):
            with suppress(OSError):
                paths.append(os.readlink(entry.path))
    except OSError:
        return paths
    return paths


def _environment(process: psutil.Process) -> list[str]:
    try:
        return list(process.environ().values())
    except (psutil.Error, OSError):
        return []


def end_processes(
    runtime_dir: Path, *, spare: Iterable[int] = (), grace_s: float = 3.0, kill_rounds: int = 5
) -> list[str]:
    """End what is left of an instance: SIGTERM, `grace_s` to obey, then SIGKILL until nothing new turns up.

    Returns the names of those that had to be asked.
    """
    spare = tuple(spare)
    left = processes_of(runtime_dir, spare=spare)
    names = []
    for process in left:
        names.append(process_title(process))
        _send(process, force=False)
    psutil.wait_procs(left, timeout=grace_s)
    for _ in range(kill_rounds):
        # Also those of before whose parent, by which they were found, has ended in the meantime.
        left = list({*processes_of(runtime_dir, spare=spare), *filter(_is_alive, left)})
        if not left:
            break
        for process in left:
            _send(process, force=True)
        psutil.wait_procs(left, timeout=1.0)
    return names


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def process_title(process: psutil.Process) -> str:
    """What the process calls itself ("ray::ServeReplica:app:Deployment", "haproxy"), "gone" if it ended."""
    try:
        return process.name()
    except psutil.Error:
        return "gone"


def _send(process: psutil.Process, *, force: bool) -> None:
    try:
        if force:
            process.kill()
        else:
            process.terminate()
    except psutil.Error:
        return


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
