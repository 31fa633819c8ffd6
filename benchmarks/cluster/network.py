"""Hosts on one machine: network namespaces joined by a bridge in a private range, with no way out.

Names carry the process that made them, so that what a killed run left behind is found by the next one and
removed. Needs root (or its network capabilities) and iproute2. Before the hosts stands a gateway as a cluster
has it: HAProxy, least connections, health checks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PREFIX = "sotto"
MAX_HOSTS = 64
FIRST_ADDRESS = 1
END_TIMEOUT_S = 10.0
_SUBNETS = tuple(ipaddress.IPv4Network("10.213.0.0/16").subnets(new_prefix=24))
_NAMESPACE = re.compile(rf"^{PREFIX}-(\d+)-\w+$")
_LINK = re.compile(rf"^{PREFIX}(\d+)[bv]\d*$")


class NoNamespaces(RuntimeError):
    """This machine cannot make network namespaces; the message says why."""


@dataclass(frozen=True, slots=True)
class NetHost:
    """One namespace: its name for people, its address on the bridge, the bridge's end of its cable."""

    name: str
    namespace: str
    index: int
    address: str
    cable: str

    def command(self, *command: str) -> list[str]:
        """`command` as it is run on this host."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def pids(self) -> list[int]:
        """Every process whose network is this host's."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]

    def cut(self) -> None:
        """Pull the cable: nothing arrives any more and nothing is refused, as after a power failure."""
        _ip("link", "set", self.cable, "down")

    def kill(self) -> None:
        """SIGKILL for everything on it, what is started meanwhile included."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)


@dataclass(slots=True)
class Network:
    """A bridge with hosts on it; `address` is this process's own on it."""

    bridge: str
    subnet: ipaddress.IPv4Network
    owner: int
    hosts: list[NetHost] = field(default_factory=list)
    num_made: int = 0

    @property
    def address(self) -> str:
        return str(self.subnet[1])

    def next_addresses(self, num_hosts: int) -> list[str]:
        """Those that the next hosts will get."""
        return [
            str(self.subnet[FIRST_ADDRESS + self.num_made + number]) for number in range(1, num_hosts + 1)
        ]

    @classmethod
    def make(cls) -> Network:
        """Remove what dead runs left, then make a bridge. Raises `NoNamespaces`."""
        problem = why_no_namespaces()
        if problem:
            raise NoNamespaces(problem)
        remove_abandoned()
        owner = os.getpid()
        network = cls(f"{PREFIX}{owner}b", _free_subnet(owner), owner)
        try:
            _ip("link", "add", network.bridge, "type", "bridge")
            _ip("addr", "add", f"{network.address}/{network.subnet.prefixlen}", "dev", network.bridge)
            _ip("link", "set", network.bridge, "up")
        except subprocess.CalledProcessError as error:
            network.remove()
            raise NoNamespaces(f"no bridge can be made: {error.stderr.strip()}") from error
        return network

    def add(self, name: str) -> NetHost:
        """A new host; its name must be letters and digits. Raises `NoNamespaces`."""
        if self.num_made >= MAX_HOSTS or not name.isalnum():
            raise ValueError(f"host {name!r}: at most {MAX_HOSTS}, of letters and digits")
        self.num_made += 1
        cable = f"{PREFIX}{self.owner}v{self.num_made}"
        address = str(self.subnet[FIRST_ADDRESS + self.num_made])
        host = NetHost(name, f"{PREFIX}-{self.owner}-{name}", self.num_made, address, cable)
        self.hosts.append(host)
        inside = ("-n", host.namespace)
        try:
            _ip("netns", "add", host.namespace)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("link", "set", cable, "master", self.bridge, "up")
            _ip(*inside, "addr", "add", f"{host.address}/{self.subnet.prefixlen}", "dev", "eth0")
            _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "link", "set", "eth0", "up")
            # Programs look up the route to a far address to learn their own; it need not answer.
            _ip(*inside, "route", "add", "default", "dev", "eth0")
        except subprocess.CalledProcessError as error:
            raise NoNamespaces(f"no namespace can be made: {error.stderr.strip()}") from error
        return host

    def remove(self) -> None:
        """Every host with all that runs on it, then the bridge; may be called twice."""
        _remove((host.namespace for host in self.hosts), (*(host.cable for host in self.hosts), self.bridge))
        self.hosts.clear()


def why_no_namespaces() -> str | None:
    """What is missing here; None where namespaces should work."""
    if shutil.which("ip") is None:
        return "network namespaces need iproute2 (the `ip` command)"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    return None


def remove_abandoned() -> list[str]:
    """End and remove the hosts and bridges of runs that no longer live; returns their names."""
    namespaces = [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]
    links = [line.split(": ")[1].split("@")[0] for line in _ip("-o", "link").splitlines()]
    dead = [name for name in namespaces if (made := _NAMESPACE.match(name)) and _is_dead(int(made[1]))]
    cables = [name for name in links if (made := _LINK.match(name)) and _is_dead(int(made[1]))]
    _remove(dead, cables)
    return [*dead, *cables]


def _is_dead(pid: int) -> bool:
    return pid != os.getpid() and not psutil.pid_exists(pid)


def _remove(namespaces: Iterable[str], links: Iterable[str]) -> None:
    for namespace in namespaces:
        if os.path.exists(f"/run/netns/{namespace}"):
            NetHost("", namespace, 0, "", "").kill()
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
    for link in links:
        subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)


def _free_subnet(seed: int) -> ipaddress.IPv4Network:
    """A /24 that no interface of this machine has."""
    taken = [
        ipaddress.IPv4Address(address.address)
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name == "AF_INET"
    ]
    for offset in range(len(_SUBNETS)):
        subnet = _SUBNETS[(seed + offset) % len(_SUBNETS)]
        if not any(address in subnet for address in taken):
            return subnet
    raise NoNamespaces("no private range is free")


def _ip(*arguments: str) -> str:
    """Run `ip`. Raises `CalledProcessError` with its words in `stderr`."""
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)
    return done.stdout


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
    """Listen on `listen` for clients on this machine; `hosts` may not be there yet."""
    path = folder / "gateway.cfg"
    path.write_text(gateway_config(listen, hosts))
    log = (folder / "gateway.log").open("wb")
    with log:
        return subprocess.Popen([str(binary), "-db", "-f", str(path)], stdout=log, stderr=log)
