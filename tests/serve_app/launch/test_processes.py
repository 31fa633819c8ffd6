import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serve_app.launch.cluster import SOURCE_DIR
from serve_app.launch.environment import make_runtime_dir, remove_runtime_dir
from serve_app.launch.keeper import start_keeper
from serve_app.launch.processes import end_processes, processes_of

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    path = make_runtime_dir()
    yield path
    end_processes(path, grace_s=0.1)
    remove_runtime_dir(path)


def start(code: str, *arguments: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start Python and wait until it runs `code`."""
    if log is None:
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        return process
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=file)
    deadline = time.monotonic() + 60
    while not log.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


SHY_CHILD = (
    "import subprocess, sys, time\n"
    "code = 'from serve_app.core.core_dumps import forbid_core_dumps as hide; hide(); '\n"
    "code += 'import time; time.sleep(60)'\n"
    "child = subprocess.Popen([sys.executable, '-c', code])\n"
    "print(child.pid, flush=True); time.sleep(60)"
)


def test_a_process_that_shows_nothing_is_told_by_its_parent(runtime_dir: Path) -> None:
    log = runtime_dir / "worker.out"
    parent = start(SHY_CHILD, str(runtime_dir / "raylet"), log=log)
    child = int(log.read_text())
    try:
        assert {process.pid for process in processes_of(runtime_dir)} == {parent.pid, child}
        assert len(end_processes(runtime_dir)) == 2
        assert not psutil.pid_exists(child)
    finally:
        parent.kill()
        parent.wait()


def test_processes_are_told_by_their_command_line_and_by_their_logs(runtime_dir: Path) -> None:
    by_argument = start(SLEEP, str(runtime_dir / "haproxy.cfg"))
    by_log = start(SLEEP, log=runtime_dir / "worker.out")
    other = start(SLEEP)
    try:
        assert {process.pid for process in processes_of(runtime_dir)} == {by_argument.pid, by_log.pid}
        spared = processes_of(runtime_dir, spare=[by_log.pid])
        assert [process.pid for process in spared] == [by_argument.pid]
        assert len(end_processes(runtime_dir)) == 2
        assert not psutil.pid_exists(by_argument.pid)
        assert not psutil.pid_exists(by_log.pid)
        assert other.poll() is None
    finally:
        for process in (by_argument, by_log, other):
            process.kill()
            process.wait()


def test_a_neighbours_folder_with_the_same_beginning_is_another_instance(runtime_dir: Path) -> None:
    process = start(SLEEP, str(runtime_dir) + "-other/haproxy.cfg")
    try:
        assert processes_of(runtime_dir) == []
    finally:
        process.kill()
        process.wait()


def test_what_ignores_the_request_is_killed(runtime_dir: Path) -> None:
    process = start(STUBBORN, str(runtime_dir / "x"))
    try:
        end_processes(runtime_dir, grace_s=0.2)
        assert not psutil.pid_exists(process.pid)
    finally:
        process.kill()
        process.wait()


def test_the_keeper_clears_up_when_its_parent_is_gone(runtime_dir: Path) -> None:
    process = start(SLEEP, str(runtime_dir / "x"))
    keeper = start_keeper(runtime_dir, SOURCE_DIR)
    try:
        assert keeper.stdin is not None
        with pytest.raises(subprocess.TimeoutExpired):
            keeper.wait(0.3)
        assert psutil.pid_exists(process.pid)
        keeper.stdin.close()
        assert keeper.wait(15) == 0
        assert process.wait(5) == -15
        assert not runtime_dir.exists()
    finally:
        for child in (process, keeper):
            child.kill()
            child.wait()
