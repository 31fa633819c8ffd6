"""Finding and ending every process that belongs to one running instance.

Ray's own children die with their parent, but HAProxy is a grandchild that nobody ends when its actor is
killed, and Ray's workers outlive a `kill -9` by seconds. All of them can be told by the instance's runtime
folder: in the command line (HAProxy, gcs, raylet), as the folder of a log that they hold open (workers and
agents overwrite their command line and environment with their title), or in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil


def processes_of(runtime_dir: Path, *, spare: Iterable[int] = ()) -> list[psutil.Process]:
    """Living processes of this user that belong to the instance, but not those in `spare` nor the caller."""
    spared = {os.getpid(), *spare}
    uid = os.getuid()
    found = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        try:
            if process.uids().real == uid and _belongs(process, str(runtime_dir)):
                found.append(process)
        except psutil.Error:
            continue
    return found


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
        left = processes_of(runtime_dir, spare=spare)
        if not left:
            break
        for process in left:
            _send(process, force=True)
        psutil.wait_procs(left, timeout=1.0)
    return names


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
