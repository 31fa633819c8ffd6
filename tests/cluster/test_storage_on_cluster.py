"""Clips and the result cache with two ingress replicas: what one stores or keeps, the other finds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.service import ServiceUnderTest
from cluster.conftest import SPOKEN, reference, word_error_rate
from cluster.own_process import service_in_own_process
from serve_app.launch.processes import process_title, processes_of

pytestmark = [pytest.mark.cluster, pytest.mark.models]

PHONE_CALL = (SPOKEN / "phone_call.flac").read_bytes()
VISIT = (SPOKEN / "visit.flac").read_bytes()
NUM_ASKED = 6
"""Each over a connection of its own, which the proxy deals out to both ingress replicas."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceUnderTest]:
    settings = {
        "model": "tiny.en",
        "language": "en",
        "num_ingress_replicas": 2,
        "result_cache_enabled": True,
        "audio_storage_path": str(tmp_path_factory.mktemp("clips")),
    }
    with service_in_own_process(settings) as running:
        yield running


async def asked(service: ServiceUnderTest, method: str, path: str, **sent: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=120) as client:
        return await client.request(method, path, **sent)


async def cached(service: ServiceUnderTest, data: bytes) -> list[bool]:
    """Whether each of some answers came from the cache."""
    answers = []
    for _ in range(NUM_ASKED):
        answer = await asked(service, "POST", "/transcribe", files={"file": data})
        assert answer.status_code == 200, answer.text
        answers.append(answer.json()["cached"])
    return answers


async def test_what_one_replica_keeps_the_others_find_until_it_is_cleared(kept: ServiceUnderTest) -> None:
    assert await cached(kept, PHONE_CALL) == [False] + [True] * (NUM_ASKED - 1)
    figures = (await asked(kept, "GET", "/stats")).json()["cache"]
    assert (figures["hits"], figures["misses"]) == (NUM_ASKED - 1, 1)
    assert (await asked(kept, "DELETE", "/cache")).json() == {"status": "cache cleared"}
    assert await cached(kept, PHONE_CALL) == [False] + [True] * (NUM_ASKED - 1)


async def test_the_same_at_once_is_transcribed_once(kept: ServiceUnderTest) -> None:
    before = (await asked(kept, "GET", "/stats")).json()["cache"]["misses"]
    sending = [asked(kept, "POST", "/transcribe", files={"file": VISIT}) for _ in range(NUM_ASKED)]
    answers = await asyncio.gather(*sending)
    assert sorted(answer.json()["cached"] for answer in answers) == [False] + [True] * (NUM_ASKED - 1)
    assert (await asked(kept, "GET", "/stats")).json()["cache"]["misses"] == before + 1


async def test_a_clip_is_found_by_every_replica(kept: ServiceUnderTest) -> None:
    data = VISIT
    stored = await asked(kept, "POST", "/api/audio", files={"file": data})
    clip_id = stored.json()["clip_id"]
    for _ in range(NUM_ASKED):
        assert (await asked(kept, "GET", f"/api/audio/{clip_id}")).json()["size_bytes"] == len(data)
    params = {"clip_id": clip_id, "diarize": "false"}
    body = (await asked(kept, "POST", "/api/transcribe", params=params)).json()
    assert word_error_rate(reference("visit"), body["transcript"]) <= 0.08
    single = await asked(kept, "POST", "/upload%2Btranscribe?diarize=false", files={"file": data})
    assert single.json()["transcript"] == body["transcript"]
    await asked(kept, "DELETE", f"/api/audio/{clip_id}")
    for _ in range(NUM_ASKED):
        assert (await asked(kept, "GET", f"/api/audio/{clip_id}")).status_code == 404


async def test_a_killed_cache_costs_no_answer_and_comes_back(kept: ServiceUnderTest) -> None:
    assert kept.runtime_dir is not None
    processes = processes_of(kept.runtime_dir)
    (victim,) = (process for process in processes if ":ResultCacheHost" in process_title(process))
    os.kill(victim.pid, signal.SIGKILL)
    psutil.wait_procs([victim], timeout=60)
    answer = await asked(kept, "POST", "/transcribe", files={"file": PHONE_CALL})
    assert (answer.status_code, answer.json()["cached"]) == (200, False)
    async with asyncio.timeout(120):
        while not all(await cached(kept, PHONE_CALL)):
            await asyncio.sleep(1)
