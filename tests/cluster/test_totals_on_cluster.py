"""`/metrics` over two ingress replicas says exactly what the clients counted, and goes on saying it when one
of the replicas has ended and another has taken its place; a client's trace reaches the recogniser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import psutil
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from benchmarks.service import ServiceUnderTest
from cluster.conftest import SPOKEN, clip, reference
from cluster.own_process import service_in_own_process
from fakes.otlp_collector import Received, otlp_collector
from serve_app.launch.processes import process_title, processes_of
from sotto_client.errors import RequestFailed, SessionFailed
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import FinalTranscript, PartialTranscript, SessionEnded
from sotto_client.pacing import paced_chunks
from sotto_client.recordings import UploadOptions, transcribe_file

pytestmark = [pytest.mark.cluster, pytest.mark.models]

CLIPS = ("short_0", "short_1", "short_2", "short_3", "short_4", "short_5")
MAX_SESSIONS = 4
"""Of one replica: fewer than there are clips, so that both have some."""
REPORTED_S = 60
"""Ray's exporters are told every ten seconds."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Received]:
    with otlp_collector() as received:
        yield received


@pytest.fixture(scope="module")
def two_replicas(collector: Received) -> Iterator[ServiceUnderTest]:
    settings = {
        "model": "tiny.en",
        "language": "en",
        "num_ingress_replicas": 2,
        "max_sessions": MAX_SESSIONS,
        "otlp_endpoint": collector.address,
        "idle_timeout_s": 120,
    }
    with service_in_own_process(settings) as running:
        yield running


@dataclass
class Count:
    """What the clients of this test were told, and sent."""

    totals: Counter[str] = field(default_factory=Counter)
    audio_s: float = 0.0
    upload_s: float = 0.0


async def talk(service: ServiceUnderTest, name: str, count: Count, told: asyncio.Semaphore) -> None:
    audio = clip(name)
    async with LiveClient(service.url) as client:
        while True:
            try:
                await client.start(SessionConfig(lang_code="en"))
                break
            except SessionFailed as error:
                count.totals["refused"] += error.code == "MAX_SESSIONS_REACHED"
                await client.close()
                await asyncio.sleep(0.1)
                await client.connect()
        count.totals["sessions"] += 1
        told.release()

        async def send() -> None:
            async for chunk in paced_chunks(audio, speed=2.0):
                await client.send_audio(chunk)
            await client.end()

        sender = asyncio.create_task(send())
        async for message in client:
            count.totals["finals"] += isinstance(message, FinalTranscript)
            count.totals["interims"] += isinstance(message, PartialTranscript)
            if isinstance(message, SessionEnded):
                count.totals[f"ended {message.reason}"] += 1
        await sender
    count.audio_s += len(audio) / 16_000


async def too_many(service: ServiceUnderTest, count: Count) -> None:
    """Open more silent sessions than both replicas may have."""
    num_refused = 0
    async with asyncio.TaskGroup() as held:
        done = asyncio.Event()

        async def hold() -> None:
            nonlocal num_refused
            async with LiveClient(service.url) as client:
                try:
                    await client.start(SessionConfig(lang_code="en"))
                except SessionFailed as error:
                    count.totals["refused"] += error.code == "MAX_SESSIONS_REACHED"
                    num_refused += 1
                    if num_refused >= 2:
                        done.set()
                    return
                count.totals["sessions"] += 1
                async with asyncio.timeout(60):
                    await done.wait()
                await client.cancel()
                async for message in client:
                    if isinstance(message, SessionEnded):
                        count.totals[f"ended {message.reason}"] += 1

        for _ in range(2 * MAX_SESSIONS + 2):
            held.create_task(hold())


async def uploads(service: ServiceUnderTest, count: Count) -> None:
    for name in ("short_3", "short_4", "short_0"):
        answer = await transcribe_file(
            SPOKEN / f"{name}.flac", url=service.url, options=UploadOptions(language="en")
        )
        count.totals["uploads"] += 1
        count.upload_s += answer.body["duration"]
    for broken in (b"", b"this is no audio at all" * 100):
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            refused = await client.post(f"{service.url}/transcribe", files={"file": ("a.wav", broken)})
        assert refused.status_code in (400, 415)
        count.totals["failed uploads"] += 1
    with pytest.raises(RequestFailed):
        await transcribe_file(SPOKEN / "short_3.flac", url=service.url, options=UploadOptions(language="de"))
    count.totals["failed uploads"] += 1


def samples_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figures(text: str) -> Count:
    """The same as a client counts, out of an exposition."""
    samples = samples_of(text)

    def total(name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(value for (sample, found), value in samples.items() if sample == name and wanted <= found)

    totals = {
        "sessions": total("stt_sessions_started_total"),
        "finals": total("stt_texts_sent_total", job_type="final"),
        "interims": total("stt_texts_sent_total", job_type="interim"),
        "ended completed": total("stt_sessions_ended_total", reason="completed"),
        "ended cancelled": total("stt_sessions_ended_total", reason="cancelled"),
        "refused": total("stt_refused_total", request_type="session", reason="max_sessions"),
        "uploads": total("whisper_transcription_requests_total", status="success"),
        "failed uploads": total("whisper_transcription_requests_total", status="error"),
    }
    whole = Counter({name: int(value) for name, value in totals.items()})
    return Count(
        whole,
        total("stt_audio_seconds_total", request_type="session"),
        total("stt_audio_seconds_total", request_type="upload"),
    )


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


async def traced_talk(service: ServiceUnderTest, count: Count) -> str:
    """A session whose client traces it; its text."""
    url = service.url.replace("http", "ws") + "/ws/stt"
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
    async with connect(url, proxy=None, additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "start_session", "config": {"lang_code": "en"}}))
        audio = clip("visit")[: 16_000 * 20].tobytes()
        for start in range(0, len(audio), 32_000):
            await socket.send(audio[start : start + 32_000])
        await socket.send(json.dumps({"type": "end_session"}))
        texts = []
        async for frame in socket:
            message = json.loads(frame)
            count.totals["sessions"] += message["type"] == "session_started"
            count.totals["interims"] += message["type"] == "partial_transcript"
            if message["type"] == "final_transcript":
                texts.append(message["text"])
            if message["type"] == "session_ended":
                count.totals[f"ended {message['reason']}"] += 1
                break
    count.totals["finals"] += len(texts)
    count.audio_s += len(audio) / 32_000
    return " ".join(texts)


async def trace_is_whole(collector: Received, text: str) -> None:
    """From the client's own span to the recogniser's batches, and without a word of `text`."""

    def of_the_trace() -> list[Span]:
        return [span for span in collector.spans if span.trace_id.hex() == TRACE_ID]

    wanted = {"WS /ws/stt", "session", "utterance", "decode", "recogniser", "queue", "batch", "inference"}
    for _ in range(REPORTED_S):
        if wanted <= {span.name for span in of_the_trace()}:
            break
        await asyncio.sleep(1)
    spans = {span.span_id: span for span in of_the_trace()}
    assert wanted <= {span.name for span in spans.values()}
    assert collector.components == {"ingress", "recogniser"}
    decodes = [span for span in spans.values() if span.name == "recogniser"]
    assert {spans[span.parent_span_id].name for span in decodes} == {"decode"}

    spoken = {word.strip(".,?!").encode() for word in (text + " " + reference("visit")).split()}
    assert spoken
    # Short words are parts of ids and names.
    assert [word for word in spoken if len(word) > 6 and word in collector.raw] == []


async def until_equal(service: ServiceUnderTest, count: Count) -> None:
    """The exposition shows `count` within the time that the exporters take, and no more afterwards."""
    shown = Count()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for _ in range(REPORTED_S):
            shown = figures((await client.get(f"{service.url}/metrics")).text)
            if shown.totals == count.totals:
                break
            await asyncio.sleep(1)
    assert shown.totals == count.totals
    assert shown.audio_s == pytest.approx(count.audio_s, abs=0.01)
    assert shown.upload_s == pytest.approx(count.upload_s, abs=0.01)


async def operator_sees_all(service: ServiceUnderTest, count: Count) -> None:
    """The operator's page has the same totals, both replicas, and the errors that clients met at either."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for _ in range(REPORTED_S):  # either replica may answer with what it fetched some seconds ago
            body = (await client.get(f"{service.url}/v1/operate")).json()
            figures = body["figures"]
            if figures["sessions"]["started"] == count.totals["sessions"]:
                break
            await asyncio.sleep(1)
    assert figures["sessions"]["started"] == count.totals["sessions"]
    assert figures["sessions"]["ended"]["completed"] == count.totals["ended completed"]
    states = {one["deployment"]: one["states"] for one in body["replicas"]}
    assert states["Ingress"] == {"RUNNING": 2}
    failed = sum(one["count"] for one in figures["failures"] if one["door"] == "/transcribe")
    assert failed == count.totals["failed uploads"]
    assert {one["last_at"] is None for one in figures["failures"]} == {False}


async def active_sessions(service: ServiceUnderTest) -> set[int]:
    """What the replicas say that answer, each question on a connection of its own."""
    found = set()
    for _ in range(20):
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            found.add((await client.get(f"{service.url}/health/status")).json()["sessions"]["active"])
    return found


def end_a_replica(service: ServiceUnderTest) -> None:
    """As a host that is shut down ends its processes."""
    assert service.runtime_dir is not None
    replicas = [p for p in processes_of(service.runtime_dir) if ":Ingress" in process_title(p)]
    assert len(replicas) == 2
    os.kill(replicas[0].pid, signal.SIGTERM)
    psutil.wait_procs(replicas[:1], timeout=60)


async def test_totals_are_the_clients_own(two_replicas: ServiceUnderTest, collector: Received) -> None:
    count = Count()
    told = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as talking:
        for name in CLIPS:
            talking.create_task(talk(two_replicas, name, count, told))
        for _ in CLIPS:
            await told.acquire()
        assert 0 not in await active_sessions(two_replicas), "one replica has all sessions"
    text = await traced_talk(two_replicas, count)
    await trace_is_whole(collector, text)
    await uploads(two_replicas, count)
    await too_many(two_replicas, count)
    assert count.totals["finals"] >= len(CLIPS)
    assert count.totals["refused"] >= 2
    await until_equal(two_replicas, count)
    await operator_sees_all(two_replicas, count)

    end_a_replica(two_replicas)
    await until_equal(two_replicas, count)
    again = asyncio.Semaphore(0)
    await talk(two_replicas, "short_0", count, again)
    await until_equal(two_replicas, count)
