"""One instance's private folder, and the environment variables under which Ray and Serve run in it.

The folder holds Ray's session, HAProxy's configuration and sockets, and logs. It lies in the system's folder
for temporary files, because socket paths are short (108 bytes on Linux, of which Ray and HAProxy use 80), is
readable by its owner alone, and is removed when the instance stops.

Ray reads the variables while it is imported and hands them on to every process it starts, so they must be in
the process environment before the first `import ray`. Names and meanings: `ray/serve/_private/constants.py`
and `ray/_private/authentication` of Ray 2.60.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HAPROXY_DIR = "ha"
SHARED_MEMORY = Path("/dev/shm")

MAX_RUNTIME_DIR_CHARS = 24
"""108 less HAPROXY_DIR, a node id of 56, "admin.sock" and the 12 that HAProxy appends while it binds."""


def make_runtime_dir() -> Path:
    """Make the folder (mode 0700). Falls back to /tmp where the system's own choice is too long."""
    path = Path(tempfile.mkdtemp(prefix="sotto-"))
    if len(str(path)) > MAX_RUNTIME_DIR_CHARS and Path("/tmp").is_dir():
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix="sotto-", dir="/tmp"))
    (path / HAPROXY_DIR).mkdir()
    return path


def memory_dir(runtime_dir: Path) -> Path | None:
    """A folder in memory that goes with `runtime_dir`; None where the system has none."""
    return SHARED_MEMORY / runtime_dir.name if SHARED_MEMORY.is_dir() else None


def remove_runtime_dir(path: Path) -> None:
    """Remove the folder and all in it; processes that die at this moment may still write, hence no error."""
    shutil.rmtree(path, ignore_errors=True)
    if (in_memory := memory_dir(path)) is not None:
        shutil.rmtree(in_memory, ignore_errors=True)


HEADERS_TIMEOUT_S = 15
"""As at the TLS edge."""


def loopback_haproxy(runtime_dir: Path, binary: Path, stats_port: int, metrics_port: int) -> Path | None:
    """Write a start script for HAProxy that keeps its statistics pages on this machine.

    Serve's template binds the statistics and metrics ports to every interface, without a password and with
    no setting for it; the script narrows those two lines before HAProxy reads the file. It takes away the
    access log, whose lines would have whole addresses, with the prompts that clients put into them, in the
    system's own log. It also takes away the offer to compress WebSocket messages: audio does not shrink, and
    every message would be inflated here. And it appends the client's address to `X-Forwarded-For`, as the
    template does not: what the client wrote there itself stands left of it, and is not believed
    (`access/addresses.py`). A client has some seconds to send its headers, where the template leaves it an
    hour.
    None where the platform's `sed` has another syntax (macOS).
    """
    if not sys.platform.startswith("linux"):
        return None
    script = runtime_dir / HAPROXY_DIR / "haproxy"
    script.write_text(
        "#!/bin/sh\n"
        'previous=""\n'
        'for argument in "$@"; do\n'
        '  if [ "$previous" = "-f" ]; then\n'
        f"    sed -i -e 's/bind [*]:{stats_port}$/bind 127.0.0.1:{stats_port}/'"
        f" -e 's/bind :{metrics_port}$/bind 127.0.0.1:{metrics_port}/'"
        f" -e '/^    timeout http-request {HEADERS_TIMEOUT_S}s$/d'"
        f" -e '/^defaults/a\\    timeout http-request {HEADERS_TIMEOUT_S}s'"
        " -e '/del-header sec-websocket-extensions/d' -e '/option forwardfor$/d'"
        " -e '/^frontend http_frontend/a\\    option forwardfor'"
        " -e '/^ *log .* local0 info$/d'"
        " -e '/^frontend http_frontend/a\\    http-request del-header sec-websocket-extensions'"
        ' "$argument"\n'
        "  fi\n"
        '  previous="$argument"\n'
        "done\n"
        f'exec "{binary}" "$@"\n'
    )
    script.chmod(stat.S_IRWXU)
    return script


MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Half an hour of 16 kHz int16 audio in one call between replicas (gRPC's default of 4 MiB: two minutes)."""

HARD_STOP_MARGIN_S = 600


@dataclass(frozen=True, slots=True)
class RayEnvironment:
    """What the variables are derived from.

    `runtime_dir` holds HAProxy's configuration and sockets and must be short: a socket path there is about
    80 characters longer, and the system's limit is 108. `max_session_s` is the longest a live session may
    last: HAProxy cuts what is older than that after each of its reloads.
    """

    runtime_dir: Path
    source_dir: Path
    stats_port: int
    metrics_port: int
    fallback_port: int
    auth_token: str
    max_session_s: int = 4 * 3600
    haproxy_binary: Path | None = None

    def variables(self) -> dict[str, str]:
        """Name to value, without regard to what the user has set."""
        run = self.runtime_dir / HAPROXY_DIR
        values = {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(self.max_session_s + HARD_STOP_MARGIN_S),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run / "admin.sock"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(run / "metrics.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run / "server-state"),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.stats_port),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.metrics_port),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(self.fallback_port),
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
            "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "3",
            "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",  # one that hangs never stops by itself
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MAX_MESSAGE_BYTES),
            "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
            "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
            "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",  # Serve's own 0.1 costs 4 % of a core
            "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",  # Ray collects them every 10 s
            "RAY_worker_niceness": "0",  # not Ray's 15, with which any neighbour starves live speech
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.auth_token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as NVML counts cards, where they are not all alike
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        if self.haproxy_binary is not None:
            values["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(self.haproxy_binary)
        return values

    def merged(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What to add to `environ`: the user's own values win, `PYTHONPATH` gets our source folder in front.

        With `RAY_AUTH_MODE` other than "token", or a token file of the user's own, no token is made up.
        """
        values = {name: value for name, value in self.variables().items() if not environ.get(name)}
        if environ.get("RAY_AUTH_MODE", "token") != "token" or environ.get("RAY_AUTH_TOKEN_PATH"):
            values.pop("RAY_AUTH_TOKEN", None)
        entries = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        source = str(self.source_dir)
        if source not in entries:
            values["PYTHONPATH"] = os.pathsep.join([source, *entries])
        return values
