"""Which ports of this machine are free."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterable, Iterator

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
