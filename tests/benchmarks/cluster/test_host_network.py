"""Hosts in network namespaces: they reach each other, die as a whole and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.cluster import network
from benchmarks.cluster.network import (
    Network,
    NoNamespaces,
    remove_abandoned,
    why_no_namespaces,
)

pytestmark = pytest.mark.hosts

ANSWER = """
import socket
listening = socket.create_server(("0.0.0.0", 8000))
print("up", flush=True)
listening.accept()
listening.accept()
"""
CALL = "import socket, sys; socket.create_connection((sys.argv[1], 8000), 5)"


@pytest.fixture
def two_hosts() -> Iterator[Network]:
    problem = why_no_namespaces()
    if problem:
        pytest.skip(problem)
    try:
        made = Network.make()
    except NoNamespaces as error:
        pytest.skip(str(error))
    try:
        made.add("one")
        made.add("two")
        yield made
    finally:
        made.remove()


def names() -> str:
    commands = (["ip", "netns", "list"], ["ip", "-o", "link"])
    return "".join(subprocess.run(command, capture_output=True, text=True).stdout for command in commands)


def test_hosts_reach_each_other_and_are_reached_from_here(two_hosts: Network) -> None:
    one, two = two_hosts.hosts
    with subprocess.Popen(one.command(sys.executable, "-c", ANSWER), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        subprocess.run(two.command(sys.executable, "-c", CALL, one.address), check=True, timeout=60)
        subprocess.run([sys.executable, "-c", CALL, one.address], check=True, timeout=60)
        assert server.wait(10) == 0


def test_a_kill_takes_every_process_of_one_host_only(two_hosts: Network) -> None:
    one, two = two_hosts.hosts
    running = [subprocess.Popen(host.command("sleep", "60")) for host in (one, one, two)]
    while len(one.pids()) < 2 or len(two.pids()) < 1:
        time.sleep(0.01)
    one.kill()
    assert [process.wait(10) for process in running[:2]] == [-9, -9]
    assert running[2].poll() is None
    two.kill()
    assert running[2].wait(10) == -9


def test_nothing_is_left_and_other_runs_are_left_alone(two_hosts: Network) -> None:
    mine = {two_hosts.bridge, *(name for host in two_hosts.hosts for name in (host.namespace, host.cable))}
    assert all(name in names() for name in mine)
    assert not mine & set(remove_abandoned())
    assert all(name in names() for name in mine)
    two_hosts.remove()
    two_hosts.remove()
    assert not any(name in names() for name in mine)


def test_what_a_dead_run_left_is_removed(two_hosts: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = two_hosts.bridge
    monkeypatch.setattr(network, "_is_dead", lambda pid: pid == os.getpid())
    removed = remove_abandoned()
    assert {bridge, *(host.namespace for host in two_hosts.hosts)} <= set(removed)
    assert bridge not in names()


def test_a_name_must_be_plain(two_hosts: Network) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        two_hosts.add("../etc")
