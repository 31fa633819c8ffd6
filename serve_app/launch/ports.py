"""Which ports of this machine are free."""

from __future__ import annotations

import socket
from contextlib import ExitStack


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


def free_ports(num_ports: int, host: str = "127.0.0.1") -> list[int]:
    """Different ports that the system says are free; held all at once while asking, so that none repeats."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(num_ports)]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def prefer_port(preferred: int, host: str = "127.0.0.1") -> int:
    """`preferred` if it is free, another one otherwise."""
    return preferred if port_is_free(preferred, host) else free_ports(1, host)[0]
