"""A small process that outlives its parent by a moment and clears up after it.

    python -m serve_app.launch.keeper RUNTIME_DIR

It waits on standard input, which the parent holds open and never writes to. When the parent stops cleanly
it has nothing left to do; when the parent was killed (`kill -9`, out of memory), the pipe closes all the
same, and the keeper ends the instance's processes and removes its folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from serve_app.launch.environment import remove_runtime_dir
from serve_app.launch.processes import end_processes


def start_keeper(runtime_dir: Path, source_dir: Path) -> subprocess.Popen[bytes]:
    """Start the keeper of `runtime_dir`; closing its standard input sets it to work."""
    entries = [str(source_dir), *filter(None, [os.pathsep.join(sys.path[1:])])]
    return subprocess.Popen(
        [sys.executable, "-m", "serve_app.launch.keeper", str(runtime_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PYTHONPATH": os.pathsep.join(entries), "PATH": os.defpath},
        start_new_session=True,
    )


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    runtime_dir = Path(sys.argv[1])
    while sys.stdin.buffer.read(4096):
        pass
    if runtime_dir.is_dir():
        end_processes(runtime_dir, grace_s=1.0)
        remove_runtime_dir(runtime_dir)


if __name__ == "__main__":
    main()
