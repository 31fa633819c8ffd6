"""Does the service in this container, or on this machine, take requests? Exit status 0 when it does.

    python -I -S healthcheck.py [--wait SECONDS [--pid PID]]

It asks `/health/ready` on loopback; port and scheme come from the variables that `sotto serve` reads. Needs
nothing but the standard library, so that it stays cheap every ten seconds.
"""

from __future__ import annotations

import argparse
import http.client
import os
import ssl
import sys
import time
from collections.abc import Mapping

TIMEOUT_S = 4.0
POLL_INTERVAL_S = 1.0
TRUE = ("1", "true", "yes", "on")


def address(environ: Mapping[str, str]) -> tuple[int, bool]:
    """Port and whether it speaks TLS, as `sotto serve` decides them from these variables."""
    port = next(
        (environ[name] for name in ("STT_PORT", "BIND_PORT", "API_PORT") if environ.get(name)), "8000"
    )
    has_tls = bool(environ.get("STT_TLS_CERT")) or environ.get("STT_TLS_SELF_SIGNED", "").lower() in TRUE
    return int(port), has_tls


def is_ready(port: int, has_tls: bool, timeout_s: float = TIMEOUT_S) -> bool:
    """Whose certificate is shown is not asked: it need not name loopback."""
    connection: http.client.HTTPConnection
    if has_tls:
        anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anyone.check_hostname = False
        anyone.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout_s, context=anyone)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """The exit status: 0 ready, 1 not."""
    parser = argparse.ArgumentParser(description="Does the service on this machine take requests?")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="until it does")
    parser.add_argument("--pid", type=int, help="no longer than this process lives")
    options = parser.parse_args(arguments)
    deadline_s = time.monotonic() + options.wait
    port, has_tls = address(environ)
    while not is_ready(port, has_tls):
        if time.monotonic() >= deadline_s or (options.pid and not os.path.exists(f"/proc/{options.pid}")):
            return 1
        time.sleep(POLL_INTERVAL_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
