"""A PostgreSQL and a Redis server of the test run's own; tests skip where Debian's packages are missing."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve_app.launch.cluster import free_ports

START_S = 60.0


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The address of an empty database, on a loopback port."""
    binaries = Path(_installed("postgres")).resolve().parent
    user = _postgres_user() if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="sotto-postgres-") as folder:
        data, port = Path(folder) / "data", free_ports(1)[0]
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        initdb = [binaries / "initdb", "-D", data, "-U", "sotto", "--auth=trust", "--no-sync"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off"}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [binaries / "postgres", "-D", data, "-p", str(port), *flags]
        with _running(command, lambda: _accepts(port), user=user, cwd=folder):
            yield f"postgresql://sotto@127.0.0.1:{port}/postgres"


@contextmanager
def redis_server() -> Iterator[str]:
    """The address of an empty Redis, on a loopback port."""
    program, port = _installed("redis-server"), free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="sotto-redis-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        with _running(command, lambda: _accepts(port), user=None, cwd=folder):
            yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def _running(
    command: list[str | Path], is_up: Callable[[], bool], *, user: str | None, cwd: str
) -> Iterator[None]:
    process = subprocess.Popen(
        command, user=user, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_S
        while not is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _installed(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def _postgres_user() -> str:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
