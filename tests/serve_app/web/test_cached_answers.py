"""The same upload is answered from the cache: to the key that sent it, for the same options and models."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from fakes.encoded_audio import chirp, wav
from fakes.fake_service import HELLO, FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from fakes.owned_client import client_with_key, keyring_for
from fakes.transcribe_client import file_of
from serve_app.cache.entries import MemoryEntries
from serve_app.cache.host import CacheHost
from serve_app.cache.ports import CacheLost, CacheStats, Looked
from serve_app.cache.results import ResultCache
from serve_app.clips.store import StoredClips
from serve_app.core.errors import InferenceError
from serve_app.core.jobs import ModelInfo
from serve_app.models.mark import files_mark
from serve_app.service.contract import ServiceStatus
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import Guards, create_app
from serve_app.web.door import Kept

TALK = wav(chirp(2.0, 16_000), 16_000)
OTHER = wav(chirp(1.0, 16_000), 16_000)
MIB = 1024 * 1024


class Service(FakeService):
    precision = "int8"

    def status(self) -> ServiceStatus:
        model = ModelInfo("base", "final", "ctranslate2", "cpu", self.precision, True, "/models/base")
        return replace(super().status(), models=(model,))


def memory_host() -> CacheHost:
    return CacheHost(MemoryEntries(max_bytes=MIB, ttl_s=60))


def client_of(
    service: FakeService,
    host: Any,
    key_id: str = "a",
    *,
    clips: StoredClips | None = None,
    local: LocalInstruments | None = None,
    shared: bool = False,
) -> httpx.AsyncClient:
    metrics = Metrics(local or LocalInstruments())
    cache = ResultCache(
        host,
        kind="memory",
        shared=shared,
        on_lookup=lambda hit: metrics.cache_lookup(hit=hit),
        on_lost=metrics.cache_lost,
    )
    keys = keyring_for(key_id)
    app = create_app(
        service, FakeSettings(), metrics, guards=Guards(keys=keys), kept=Kept(clips=clips, cache=cache)
    )
    return client_with_key(app, key_id)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def local() -> LocalInstruments:
    return LocalInstruments()


@pytest.fixture
async def client(service: Service, local: LocalInstruments) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service, memory_host(), local=local) as client:
        yield client


async def sent(client: httpx.AsyncClient, data: bytes = TALK, **params: str) -> dict[str, Any]:
    answer = await client.post("/transcribe", files=file_of(data), params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_the_second_answer_is_the_first_from_the_cache(
    client: httpx.AsyncClient, service: Service, local: LocalInstruments
) -> None:
    first, again = await sent(client), await sent(client)
    assert len(service.uploads) == 1
    assert (first["cached"], again["cached"]) == (False, True)
    assert "cache_hit_at" not in first
    assert first["cached_at"] == again["cached_at"] <= again["cache_hit_at"]
    changing = {"cached", "cached_at", "cache_hit_at", "processing_time", "real_time_factor", "timestamp"}
    assert {name: first[name] for name in first.keys() - changing} == {
        name: again[name] for name in again.keys() - changing
    }
    assert local.value("whisper_cache_hits_total") == 1
    assert local.value("whisper_cache_misses_total") == 1
    for cached in ("true", "false"):
        labels = {"status": "success", "cached": cached}
        assert local.value("whisper_transcription_requests_total", labels) == 1


async def test_all_doors_and_formats_share_a_result(
    client: httpx.AsyncClient, service: Service, tmp_path: Path
) -> None:
    await sent(client)
    assert (await client.post("/transcribe?response_format=text", files=file_of(TALK))).text == (
        "Hello there. General Kenobi.\n"
    )
    raw = await client.post("/transcribe", content=TALK, headers={"content-type": "audio/wav"})
    proxied = await client.post("/api/transcribe", files=file_of(TALK))
    assert raw.json()["cached"] is proxied.json()["cached"] is True
    assert proxied.json()["cache_hit_at"]
    assert len(service.uploads) == 1
    for _ in range(2):
        openai = {"model": "whisper-1", "response_format": "srt"}
        answer = await client.post("/v1/audio/transcriptions", files=file_of(TALK), data=openai)
        assert answer.text.startswith("1\n00:00:00,000")
    assert len(service.uploads) == 2  # it asks for times of words


async def test_streamed_answers_use_the_cache_too(service: Service) -> None:
    async with client_of(service, memory_host()) as client:
        answers = []
        for stream in ("true", "true", "false"):
            form = {"model": "whisper-1", "stream": stream}
            answers.append(await client.post("/v1/audio/transcriptions", files=file_of(TALK), data=form))
        ndjson = await client.post("/transcribe?response_format=ndjson", files=file_of(TALK))
    computed, found, whole = answers
    assert len(service.uploads) == 1
    assert found.text == computed.text
    assert found.headers["content-type"] == computed.headers["content-type"]
    events = [json.loads(line.removeprefix("data: ")) for line in found.text.split("\n\n") if line]
    assert [event["type"] for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert events[-1]["text"] == whole.json()["text"]
    assert len(ndjson.text.splitlines()) == len(events) - 1


async def test_a_clip_is_found_by_what_is_in_it(service: Service, tmp_path: Path) -> None:
    clips = StoredClips(str(tmp_path))
    async with client_of(service, memory_host(), clips=clips) as client:
        await sent(client)
        clip_id = (await client.post("/api/audio", files=file_of(TALK))).json()["clip_id"]
        answer = await client.post(f"/api/transcribe?clip_id={clip_id}&diarize=false")
    assert answer.json()["cached"] is True
    assert len(service.uploads) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"language": "en"},
        {"task": "translate"},
        {"vad_filter": "false"},
        {"prompt": "Dr. Silva"},
        {"hotwords": "Sotto"},
        {"beam_size": "2"},
        {"temperature": "0.5"},
        {"normalise": "true"},
        {"smart_format": "true"},
        {"withhold_doubted": "true"},
        {"word_timestamps": "true"},
        {"audio_track": "0"},
        {"diarize": "true", "diarization_backend": "channel"},
        {"languages": "en,pt"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_every_option_is_another_result(
    client: httpx.AsyncClient, service: Service, change: dict[str, str]
) -> None:
    await sent(client)
    assert (await sent(client, **change))["cached"] is False
    assert (await sent(client, **change))["cached"] is True
    assert len(service.uploads) == 2


async def test_other_audio_and_other_models_are_other_results(
    client: httpx.AsyncClient, service: Service
) -> None:
    await sent(client)
    assert (await sent(client, OTHER))["cached"] is False
    service.precision = "float32"
    assert (await sent(client))["cached"] is False


def test_replaced_files_are_another_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    marks = [files_mark.__wrapped__(str(tmp_path))]
    (tmp_path / "model.bin").write_bytes(b"other weights")
    marks.append(files_mark.__wrapped__(str(tmp_path)))
    assert marks[0] != marks[1]
    assert files_mark.__wrapped__(str(tmp_path / "nowhere")) == ""


async def test_one_key_never_gets_another_keys_result(service: Service) -> None:
    host = memory_host()
    async with (
        client_of(service, host, "a") as a,
        client_of(service, host, "b") as b,
        client_of(service, host, "") as nobody,
    ):
        await sent(a)
        assert (await sent(b))["cached"] is False
        assert (await sent(nobody))["cached"] is False
        assert (await sent(a))["cached"] is True
        assert len(service.uploads) == 3


async def test_unless_that_is_what_is_wanted(service: Service) -> None:
    host = memory_host()
    async with (
        client_of(service, host, "a", shared=True) as a,
        client_of(service, host, "b", shared=True) as b,
    ):
        await sent(a)
        assert (await sent(b))["cached"] is True


async def test_the_same_at_once_is_transcribed_once(client: httpx.AsyncClient, service: Service) -> None:
    service.transcribe_gate = asyncio.Event()
    asking = [asyncio.create_task(sent(client)) for _ in range(4)]
    async with asyncio.timeout(20):
        while not service.uploads:
            await asyncio.sleep(0.01)
    service.transcribe_gate.set()
    bodies = await asyncio.gather(*asking)
    assert len(service.uploads) == 1
    assert sorted(body["cached"] for body in bodies) == [False, True, True, True]
    assert {body["transcript"] for body in bodies} == {"Hello there. General Kenobi."}


async def test_a_client_that_goes_leaves_the_work_to_the_others(
    client: httpx.AsyncClient, service: Service
) -> None:
    service.transcribe_gate = asyncio.Event()
    first = asyncio.create_task(sent(client))
    async with asyncio.timeout(20):
        while not service.uploads:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(sent(client))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    service.transcribe_gate.set()
    assert (await second)["transcript"]
    assert (len(service.uploads), service.num_cancelled_uploads) == (1, 0)


async def test_a_failure_is_not_kept(client: httpx.AsyncClient, service: Service) -> None:
    service.transcribe_error = InferenceError("no")
    assert (await client.post("/transcribe", files=file_of(TALK))).status_code == 500
    service.transcribe_error = None
    assert (await sent(client))["cached"] is False


async def test_what_is_wrong_with_the_audio_is_kept_too(client: httpx.AsyncClient) -> None:
    first, again = await sent(client, TALK[:-20_000]), await sent(client, TALK[:-20_000])
    assert again["cached"] is True
    assert (first["warning"], first["complete"]) == (again["warning"], again["complete"])
    assert again["complete"] is False


async def test_figures_that_are_no_numbers_are_kept(client: httpx.AsyncClient, service: Service) -> None:
    segments = (replace(HELLO.segments[0], avg_logprob=-math.inf), HELLO.segments[1])
    service.transcript = replace(HELLO, segments=segments, language_probability=math.nan)
    for body in (await sent(client), await sent(client)):
        assert body["segments"][0]["avg_logprob"] is None
        assert body["confidence"] is None
    assert body["cached"] is True


async def test_figures_and_clearing(client: httpx.AsyncClient, service: Service) -> None:
    for _ in range(4):
        await sent(client)
    cache = (await client.get("/stats")).json()["cache"]
    assert (cache["hits"], cache["misses"], cache["hit_rate"]) == (3, 1, 0.75)
    assert (cache["enabled"], cache["type"], cache["available"], cache["entries"]) == (
        True,
        "memory",
        True,
        1,
    )
    assert (await client.get("/health")).json()["cache"] == "enabled"
    assert (await client.get("/")).json()["config"]["cache_type"] == "memory"
    assert (await client.delete("/cache")).json() == {"status": "cache cleared"}
    assert (await sent(client))["cached"] is False


async def test_without_a_cache_nothing_is_kept(service: Service) -> None:
    app = create_app(service, FakeSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sotto") as client:
        bodies = [await sent(client), await sent(client)]
        assert [body["cached"] for body in bodies] == [False, False]
        assert "cached_at" not in bodies[0]
        cache = (await client.get("/stats")).json()["cache"]
        assert (cache["hits"], cache["hit_rate"], cache["enabled"]) == (0, 0.0, False)
        assert (await client.delete("/cache")).json() == {"status": "cache cleared"}
    assert len(service.uploads) == 2


class Lost:
    """A cache that does not answer."""

    async def look_up(self, key: str) -> Looked:
        raise CacheLost("gone")

    async def renew(self, key: str) -> None:
        raise CacheLost("gone")

    async def release(self, key: str) -> None:
        raise CacheLost("gone")

    async def keep(self, key: str, value: bytes) -> None:
        raise CacheLost("gone")

    async def clear(self, prefix: str = "") -> int:
        raise CacheLost("gone")

    async def stats(self) -> CacheStats:
        raise CacheLost("gone")


async def test_a_lost_cache_costs_no_answer(service: Service, local: LocalInstruments) -> None:
    async with client_of(service, Lost(), local=local) as client:
        body = await sent(client)
        assert body["cached"] is False
        assert "cached_at" not in body
        assert local.value("stt_cache_lost_total") == 2
        assert (await client.get("/stats")).json()["cache"]["available"] is False
        refused = await client.delete("/cache")
    assert (refused.status_code, list(refused.json())) == (503, ["detail"])


def test_a_result_survives_its_encoding() -> None:
    from serve_app.web.recordings import _Work

    work = _Work(HELLO, "damaged", False)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(work), type=_Work) == work
