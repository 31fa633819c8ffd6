"""Keys over two ingress replicas: one that is made opens both, one that is revoked is refused by both within
seconds, and its sessions end with what was said and a reason."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.service import ServiceUnderTest
from cluster.conftest import clip, reference, word_error_rate
from cluster.own_process import service_in_own_process
from serve_app.core.samples import SAMPLE_RATE_HZ

pytestmark = [pytest.mark.cluster, pytest.mark.models]

EFFECTIVE_WITHIN_S = 5.0
NUM_REQUESTS = 30
"""Each over a connection of its own, so that both replicas are asked."""
SPOKEN = "short_1"
CHUNK_SAMPLES = 3_200


@dataclass
class Keys:
    """`sotto keys`, for one file."""

    file: Path

    def run(self, *arguments: str) -> dict[str, Any]:
        command = [
            sys.executable,
            "-m",
            "serve_app.cli",
            "keys",
            *arguments,
            "--file",
            str(self.file),
            "--json",
        ]
        shown: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return shown


@dataclass
class Heard:
    """One live session, as its client saw it end."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    close_code: int = 0
    closed_s: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(one["text"] for one in self.messages if one["type"] == "final_transcript")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def locked(keys: Keys) -> Iterator[ServiceUnderTest]:
    settings = {
        "model": "tiny.en",
        "language": "en",
        "num_ingress_replicas": 2,
        "keys_file": str(keys.file),
    }
    with service_in_own_process(settings) as running:
        yield running


async def statuses(url: str, key: str) -> list[int]:
    async def ask() -> int:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            return (await http.get("/v1/models", headers={"x-api-key": key})).status_code

    return [await ask() for _ in range(NUM_REQUESTS)]


async def seconds_until(url: str, key: str, status: int, since_s: float) -> float:
    """From `since_s` to the first of so many requests that are all answered with `status`."""
    while True:
        took_s = time.monotonic() - since_s
        if set(await statuses(url, key)) == {status}:
            return took_s
        assert took_s < EFFECTIVE_WITHIN_S


async def listen(socket: ClientConnection) -> Heard:
    heard = Heard()
    try:
        while True:
            heard.messages.append(json.loads(await socket.recv()))
    except ConnectionClosed as closed:
        heard.close_code = closed.rcvd.code if closed.rcvd is not None else 1006
        heard.closed_s = time.monotonic()
    return heard


async def speak(socket: ClientConnection, session_id: str) -> None:
    await socket.send(json.dumps({"type": "start_session", "session_id": session_id}))
    samples = clip(SPOKEN)
    for start in range(0, len(samples), CHUNK_SAMPLES):
        await socket.send(samples[start : start + CHUNK_SAMPLES].tobytes())
        await asyncio.sleep(CHUNK_SAMPLES / SAMPLE_RATE_HZ)  # as people speak: a backlog is finished first


async def test_keys_work_on_every_replica_within_seconds_of_being_made_and_revoked(
    locked: ServiceUnderTest, keys: Keys
) -> None:
    assert set(await statuses(locked.url, "sotto_" + "0" * 12 + "_" + "0" * 64)) == {401}
    made, other = (keys.run("create", "--name", name, "--scope", "live") for name in ("shop", "clinic"))
    made_s = time.monotonic()
    created_s = await seconds_until(locked.url, made["key"], 200, made_s)
    await seconds_until(locked.url, other["key"], 200, made_s)
    address = locked.url.replace("http", "ws", 1) + "/ws/stt"

    def opened(key: str) -> connect:
        return connect(address, proxy=None, additional_headers={"authorization": f"Bearer {key}"})

    sockets = [await opened(made["key"]) for _ in range(4)] + [await opened(other["key"])]
    listening = [asyncio.create_task(listen(socket)) for socket in sockets]
    await asyncio.gather(*(speak(socket, f"s{number}") for number, socket in enumerate(sockets)))
    revoked_s = time.monotonic()
    await asyncio.to_thread(keys.run, "revoke", "shop")
    refused_s = await seconds_until(locked.url, made["key"], 401, revoked_s)
    *ended, going_on = listening
    last = await asyncio.wait_for(asyncio.gather(*ended), 60)
    ended_s = max(heard.closed_s for heard in last) - revoked_s
    print(f"made: {created_s:.2f} s, refused: {refused_s:.2f} s, sessions ended: {ended_s:.2f} s")
    assert ended_s < EFFECTIVE_WITHIN_S
    for heard in last:
        assert heard.close_code == 1008
        error, end = heard.messages[-2:]
        assert (error["type"], error["code"], end["type"]) == ("error", "INVALID_KEY", "session_ended")
        assert word_error_rate(reference(SPOKEN), heard.text) < 0.35
    assert not going_on.done()
    await sockets[-1].send(json.dumps({"type": "end_session"}))
    finished = await asyncio.wait_for(going_on, 60)
    assert (finished.messages[-1]["reason"], finished.close_code) == ("completed", 1000)
    assert set(await statuses(locked.url, other["key"])) == {200}
