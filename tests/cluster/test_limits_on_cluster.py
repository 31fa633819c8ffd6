"""Limits hold exactly across two ingress replicas, and a killed one gives back what it held."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from serve_app.access.limit_store import LEASE_S, RENEWAL_S
from serve_app.launch.cluster import free_ports

pytestmark = pytest.mark.cluster

LAUNCH = Path(__file__).resolve().parents[1] / "fakes" / "launch_limited.py"
MAX_SESSIONS, MAX_REQUESTS = 12, 150
SETTINGS = {"sessions_per_address": MAX_SESSIONS, "requests_per_day_per_address": MAX_REQUESTS}
PATIENCE_S = 120


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A process of its own: Ray reads its variables while it is imported."""
    command = [sys.executable, str(LAUNCH), str(free_ports(1)[0]), json.dumps(SETTINGS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the service did not start: its process says above why"
        yield json.loads(line)["url"]
        process.communicate(timeout=300)


def from_address(address: str) -> dict[str, str]:
    """What a proxy on this machine writes; the first is what its client claimed."""
    return {"X-Forwarded-For": f"6.6.6.6, {address}"}


async def start(stack: AsyncExitStack, url: str, address: str) -> tuple[ClientConnection, dict[str, Any]]:
    """A socket and the answer to its start."""
    address_headers = from_address(address)
    live = url.replace("http", "ws") + "/ws/stt"
    socket = await stack.enter_async_context(connect(live, proxy=None, additional_headers=address_headers))
    await socket.send(json.dumps({"type": "start_session"}))
    return socket, json.loads(await socket.recv())


async def replicas_of(url: str) -> set[int]:
    """Process ids, with as many questions as it takes to hear of both."""
    found: set[int] = set()
    async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(trust_env=False) as client:
        index = 0
        while len(found) < 2:
            index += 1
            headers = from_address(f"192.0.2.{index % 250}") | {"connection": "close"}
            found.add((await client.get(f"{url}/pid", headers=headers)).json()["pid"])
    return found


async def test_exactly_as_many_requests_as_the_limit(url: str) -> None:
    assert len(await replicas_of(url)) == 2
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        room = asyncio.Semaphore(20)

        async def ask() -> httpx.Response:
            async with room:
                headers = from_address("198.51.100.1") | {"connection": "close"}
                return await client.get(f"{url}/v1/models", headers=headers)

        answers = await asyncio.gather(*(ask() for _ in range(2 * MAX_REQUESTS)))
        other = await client.get(f"{url}/v1/models", headers=from_address("198.51.100.2"))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (MAX_REQUESTS, MAX_REQUESTS)
    assert other.status_code == 200


async def test_exactly_as_many_sessions_as_the_limit(url: str) -> None:
    async with AsyncExitStack() as stack:
        started = await asyncio.gather(*(start(stack, url, "198.51.100.7") for _ in range(3 * MAX_SESSIONS)))
        kinds = [answer["type"] for _, answer in started]
        assert (kinds.count("session_started"), kinds.count("error")) == (MAX_SESSIONS, 2 * MAX_SESSIONS)
        refused = [(socket, answer) for socket, answer in started if answer["type"] == "error"]
        assert {answer["code"] for _, answer in refused} == {"LIMIT_REACHED"}
        await asyncio.gather(*(socket.wait_closed() for socket, _ in refused))
        assert {socket.close_code for socket, _ in refused} == {1013}


async def test_a_killed_replica_gives_back_what_it_held(url: str) -> None:
    """Sockets one after another: both replicas get some of them."""
    address, replicas = "198.51.100.8", await replicas_of(url)
    async with AsyncExitStack() as stack:
        held = [(await start(stack, url, address))[0] for _ in range(MAX_SESSIONS)]
        assert (await start(stack, url, address))[1]["code"] == "LIMIT_REACHED"
        closing = [asyncio.create_task(socket.wait_closed()) for socket in held]
        os.kill(replicas.pop(), signal.SIGKILL)
        await asyncio.wait(closing, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(LEASE_S + 2 * RENEWAL_S)
        num_lost = sum(task.done() for task in closing)
        assert 0 < num_lost < MAX_SESSIONS
        again = [(await start(stack, url, address))[1]["type"] for _ in range(num_lost + 3)]
        assert again == ["session_started"] * num_lost + ["error"] * 3
        for task in closing:
            task.cancel()
