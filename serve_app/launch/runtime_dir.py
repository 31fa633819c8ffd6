"""The private folder of one running instance: Ray's session, HAProxy's configuration and sockets, logs.

It lies in the system's folder for temporary files, because socket paths are short (108 bytes on Linux, of
which Ray and HAProxy use 80), is readable by its owner alone, and is removed when the instance stops.
"""

from __future__ import annotations

import shutil
import stat
import sys
import tempfile
from pathlib import Path

HAPROXY_DIR = "ha"

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


def remove_runtime_dir(path: Path) -> None:
    """Remove the folder and all in it; processes that die at this moment may still write, hence no error."""
    shutil.rmtree(path, ignore_errors=True)


def loopback_haproxy(runtime_dir: Path, binary: Path, stats_port: int, metrics_port: int) -> Path | None:
    """Write a start script for HAProxy that keeps its statistics pages on this machine.

    Serve's template binds the statistics and metrics ports to every interface, without a password and with
    no setting for it; the script narrows those two lines before HAProxy reads the file. It also takes away
    the offer to compress WebSocket messages: audio does not shrink, and every message would be inflated here.
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
        " -e '/del-header sec-websocket-extensions/d'"
        " -e '/^frontend http_frontend/a\\    http-request del-header sec-websocket-extensions'"
        ' "$argument"\n'
        "  fi\n"
        '  previous="$argument"\n'
        "done\n"
        f'exec "{binary}" "$@"\n'
    )
    script.chmod(stat.S_IRWXU)
    return script
