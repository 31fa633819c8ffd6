"""The door in front of the hosts, like a cluster's gateway: HAProxy, least connections, health checks."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

SERVE_PORT = 8000
GATEWAY_PORT = 8000


def gateway_config(listen: str, hosts: Sequence[str]) -> str:
    """HAProxy's configuration: what a host that went away had open is closed, so that clients know."""
    servers = "\n".join(f"    server h{index} {host}:{SERVE_PORT}" for index, host in enumerate(hosts, 1))
    return f"""\
global
    nbthread 1
    maxconn 2000
defaults
    mode http
    option http-no-delay
    option redispatch
    retries 3
    timeout connect 2s
    timeout client 3600s
    timeout server 3600s
    timeout tunnel 3600s
    timeout http-request 15s
frontend gateway
    bind {listen}:{GATEWAY_PORT}
    http-request del-header Sec-WebSocket-Extensions
    default_backend hosts
backend hosts
    balance leastconn
    option httpchk GET /-/healthz
    http-check expect status 200
    default-server check inter 1s fastinter 250ms downinter 1s fall 3 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def start_gateway(binary: Path, folder: Path, listen: str, hosts: Sequence[str]) -> subprocess.Popen[bytes]:
    """Listen on `listen` for whoever is on this machine; `hosts` may not be there yet."""
    path = folder / "gateway.cfg"
    path.write_text(gateway_config(listen, hosts))
    log = (folder / "gateway.log").open("wb")
    with log:
        return subprocess.Popen([str(binary), "-db", "-f", str(path)], stdout=log, stderr=log)
