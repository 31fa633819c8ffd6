"""The launcher with a real Ray, HAProxy and all: each instance is a process of its own, because Ray reads its
variables while it is imported and a test must be able to kill it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect

from serve_app.launch.cluster import SOURCE_DIR, free_ports
from serve_app.launch.processes import processes_of
from sotto_client.duplex_http import DuplexRequest, lines

pytestmark = pytest.mark.cluster

FAKES = SOURCE_DIR / "tests" / "fakes"


@dataclass
class Instance:
    process: subprocess.Popen[str]
    url: str
    runtime_dir: Path

    def children(self) -> list[psutil.Process]:
        return processes_of(self.runtime_dir)


def launch(port: int, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(SOURCE_DIR), str(FAKES.parent)])
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, str(FAKES / "launch_toy.py"), str(port), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**environ, "PYTHONPATH": path, "RAY_ADDRESS": "203.0.113.1:6379"},
    )


@contextmanager
def running() -> Iterator[Instance]:
    process = launch(free_ports(1)[0])
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(process.communicate()[1])
        fields = json.loads(line)
        yield Instance(process, fields["url"], Path(fields["runtime_dir"]))
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def wait_until_gone(instance: Instance, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while (instance.children() or instance.runtime_dir.exists()) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = [process.name() for process in instance.children()]
    assert left == []
    assert not instance.runtime_dir.exists()


async def test_it_serves_and_stops_and_leaves_nothing() -> None:
    with running() as instance:
        names = [process.name() for process in instance.children()]
        assert "haproxy" in names
        await serves_plain_http(instance.url)
        await serves_websockets(instance.url)
        await serves_full_duplex(instance.url)
        listens_on_loopback_only(instance)
        instance.process.send_signal(signal.SIGTERM)
        _, errors = instance.process.communicate(timeout=60)
        assert instance.process.returncode == 0
        assert "Toy is ready" in errors
        assert "Traceback" not in errors
        wait_until_gone(instance, 60.0)


async def serves_plain_http(url: str) -> None:
    for options in ({"http2": False}, {"http1": False, "http2": True}):
        async with httpx.AsyncClient(trust_env=False, **options) as client:
            try:
                answer = await client.get(url)
            except httpx.RemoteProtocolError:
                # HAProxy reloads once the routes are known: over HTTP/2 it says goodbye, without an
                # error, and browsers ask again by themselves.
                answer = await client.get(url)
        assert answer.json() == {"hello": "world"}


async def serves_websockets(url: str) -> None:
    async with connect(url.replace("http", "ws", 1) + "/echo", proxy=None) as socket:
        await socket.send(bytes(3200))
        assert json.loads(await socket.recv()) == {"num_bytes": 3200}


async def serves_full_duplex(url: str) -> None:
    answered = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for size in (100, 200):
            yield bytes(size)
            await asyncio.wait_for(answered.wait(), 60)
            answered.clear()

    request = DuplexRequest(url + "/count", {"Content-Type": "audio/pcm"}, body())
    head = await request.open()
    received = []
    async for line in lines(request.chunks()):
        received.append(json.loads(line)["num_bytes"])
        answered.set()
    await request.close()
    assert head.status == 200
    assert received == [100, 200]


def listens_on_loopback_only(instance: Instance) -> None:
    # After a reload the old process may still be there, finishing its connections.
    haproxies = [process for process in instance.children() if process.name() == "haproxy"]
    open_now = [connection for process in haproxies for connection in process.net_connections("tcp")]
    listening = {connection.laddr for connection in open_now if connection.status == psutil.CONN_LISTEN}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert len(listening) == 3


def test_a_killed_parent_leaves_nothing() -> None:
    with running() as instance:
        assert len(instance.children()) > 5
        instance.process.kill()
        wait_until_gone(instance, 60.0)


def test_a_deployment_that_fails_says_why_and_leaves_nothing() -> None:
    process = launch(free_ports(1)[0], "broken")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "DEPLOY_FAILED" in errors
    assert "the toy is broken" in errors
    assert "Stack (most recent call" not in errors
    folder = re.search(r"runtime folder (\S+)", errors)
    assert folder is not None
    assert not Path(folder[1]).exists()
    assert processes_of(Path(folder[1])) == []


def test_a_taken_port_is_said_before_anything_is_started() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        process = launch(port)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in errors
    assert "starting Ray" not in errors
