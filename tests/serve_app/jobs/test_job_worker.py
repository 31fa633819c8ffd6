"""The worker takes jobs to their end: retries, cancelling, lost leases, webhooks with the result."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.core.addresses import Networks
from serve_app.core.errors import InferenceError, InvalidAudio, JobsUnavailable, QueueFull
from serve_app.jobs.addresses import OutboundRules
from serve_app.jobs.audio_files import StoredAudio
from serve_app.jobs.desk import JobDesk, NewJob
from serve_app.jobs.opening import open_store
from serve_app.jobs.outbound import Outbound
from serve_app.jobs.records import Job, JobState
from serve_app.jobs.threads import StoreThreads
from serve_app.jobs.worker import MAX_ATTEMPTS, JobKind, Parts, Progress, Worker, WorkerLimits


class Office:
    """A store, a desk and workers, by a clock of the test's own; what the work does is scripted."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000.0
        self.store = StoreThreads(lambda: open_store(f"sqlite:///{folder / 'jobs.db'}"))
        self.audio = StoredAudio(str(folder / "audio"))
        self.rules = OutboundRules(Networks(("127.0.0.0/8",)))
        self.outbound = Outbound(self.rules, resolver=resolve, transport=httpx.MockTransport(self.fetched))
        self.desk = JobDesk(self.store, self.audio, self.rules, now_s=lambda: self.now, watch_s=0.001)
        self.failures: list[Exception] = []
        self.heard: list[bytes] = []
        self.windows = [b"one", b"two", b"three"]
        self.num_decoded = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()

    def worker(self, **limits: Any) -> Worker:
        limits = {"lease_s": 10.0, "renew_s": 0.005, "poll_s": 0.005, **limits}
        kinds = {"native": JobKind(self.work, webhook_body)}
        return Worker(
            self.store, self.audio, self.outbound, kinds, WorkerLimits(**limits), now_s=lambda: self.now
        )

    def fetched(self, request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"from afar"

        return httpx.Response(200, content=body())

    async def work(self, job: Job, file: Any, parts: Parts, progress: Progress) -> bytes:
        self.heard.append(file.read())
        for index, window in enumerate(self.windows):
            if parts.recall(window.decode()) is None:
                self.num_decoded += 1
                self.begun.set()
                if window != self.windows[0]:
                    await self.gate.wait()
                if self.failures:
                    raise self.failures.pop(0)
                await parts.keep(window.decode(), window)
            progress((index + 1) / len(self.windows))
        return json.dumps({"text": " ".join(window.decode() for window in self.windows)}).encode()

    async def submit(self, owner: str = "kim", **fields: Any) -> Job:
        if "url" not in fields:
            fields.setdefault("file", io.BytesIO(b"audio"))
        return await self.desk.submit(NewJob(owner=owner, kind="native", parameters=(), **fields))

    async def state(self, job: Job) -> JobState:
        return (await self.desk.job(job.job_id, job.owner)).state


async def resolve(host: str, port: int) -> list[str]:
    if host != "127.0.0.1":
        raise OSError("no such name")
    return [host]


def webhook_body(job: Job, result: bytes | None) -> bytes:
    return json.dumps([job.state, job.error, None if result is None else json.loads(result)]).encode()


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    office = Office(tmp_path)
    yield office
    await office.outbound.close()
    await office.store.close()


async def test_a_job_is_done_and_its_webhook_waits_with_the_result(office: Office, tmp_path: Path) -> None:
    job = await office.submit(webhook_url="http://127.0.0.1/hook")
    assert await office.worker().work_on_one()
    ended = await office.desk.job(job.job_id, "kim")
    assert (ended.state, ended.progress) == (JobState.DONE, 1.0)
    assert json.loads(await office.desk.result(ended)) == {"text": "one two three"}
    assert office.heard == [b"audio"]
    (webhook,) = await office.store.call(lambda s: s.deliveries("kim", job.job_id))
    assert json.loads(webhook.body) == ["done", "", {"text": "one two three"}]
    assert webhook.delivery_id.startswith("msg_")
    assert not await office.worker().work_on_one()
    # The audio goes with the next sweep, the result when its time has come.
    assert len(list((tmp_path / "audio").iterdir())) == 1
    await office.worker().sweep_once()
    assert list((tmp_path / "audio").iterdir()) == []
    office.now += 86_401
    await office.worker().sweep_once()
    assert await office.desk.newest("kim", None, 9) == []


async def test_a_clients_fault_ends_the_job_and_is_told(office: Office) -> None:
    office.failures = [InvalidAudio("no audio could be decoded")]
    job = await office.submit(webhook_url="http://127.0.0.1/hook")
    await office.worker().work_on_one()
    ended = await office.desk.job(job.job_id, "kim")
    assert (ended.state, ended.error) == (JobState.FAILED, "no audio could be decoded")
    (webhook,) = await office.store.call(lambda s: s.deliveries("kim", job.job_id))
    assert json.loads(webhook.body)[:2] == ["failed", "no audio could be decoded"]


async def test_a_fault_of_ours_is_tried_again_from_where_it_was(office: Office) -> None:
    office.failures = []
    job = await office.submit()
    office.gate.clear()
    working = asyncio.create_task(office.worker().work_on_one())
    await office.begun.wait()
    while office.num_decoded < 2:
        await asyncio.sleep(0.001)
    office.failures = [InferenceError("lost")]
    office.gate.set()
    await working
    assert await office.state(job) is JobState.QUEUED
    assert not await office.worker().work_on_one()  # not at once
    office.now += 3
    assert await office.worker().work_on_one()
    assert await office.state(job) is JobState.DONE
    assert office.num_decoded == 4  # the first window was not decoded again


@pytest.mark.parametrize("error", [InferenceError("the model fails"), RuntimeError("/secret/path")])
async def test_what_always_fails_is_given_up(office: Office, error: Exception) -> None:
    office.failures = [error] * MAX_ATTEMPTS
    job = await office.submit()
    for _ in range(MAX_ATTEMPTS):
        assert await office.worker().work_on_one()
        office.now += 1_000
    ended = await office.desk.job(job.job_id, "kim")
    expected = str(error) if isinstance(error, InferenceError) else "Transcription failed"
    assert (ended.state, ended.error) == (JobState.FAILED, expected)


async def test_a_full_server_is_no_attempt(office: Office) -> None:
    office.failures = [QueueFull("full")] * 20
    job = await office.submit()
    for _ in range(20):
        await office.worker().work_on_one()
        office.now += 1_000
    assert (await office.desk.job(job.job_id, "kim")).attempts == 0
    await office.worker().work_on_one()
    assert await office.state(job) is JobState.DONE


async def test_a_job_that_ends_its_processes_is_given_up(office: Office) -> None:
    job = await office.submit(webhook_url="http://127.0.0.1/hook")
    for _ in range(MAX_ATTEMPTS):  # processes that die with it
        await office.store.call(lambda s: s.claim("dead", now_s=office.now, lease_s=1))
        office.now += 2
    assert await office.worker().work_on_one()
    ended = await office.desk.job(job.job_id, "kim")
    assert (ended.state, office.num_decoded) == (JobState.FAILED, 0)
    assert len(await office.desk.deliveries(job.job_id, "kim")) == 1


async def test_cancelling_stops_the_work_also_from_another_process(office: Office) -> None:
    office.gate.clear()
    job = await office.submit()
    working = asyncio.create_task(office.worker().work_on_one())
    await office.begun.wait()
    assert (await office.desk.cancel(job.job_id, "kim")).state is JobState.CANCELLED
    await asyncio.wait_for(working, 30)  # the renewal finds out: this desk knows of no worker
    assert await office.state(job) is JobState.CANCELLED
    assert office.num_decoded < 3


async def test_a_worker_that_ends_gives_its_job_back(office: Office) -> None:
    office.gate.clear()
    job = await office.submit()
    running = asyncio.create_task(office.worker().run())
    await office.begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    found = await office.desk.job(job.job_id, "kim")
    assert (found.state, found.attempts) == (JobState.QUEUED, 0)
    office.gate.set()
    assert await office.worker().work_on_one()
    assert await office.state(job) is JobState.DONE


async def test_what_a_slow_worker_still_does_counts_for_nothing(office: Office) -> None:
    office.gate.clear()
    job = await office.submit(webhook_url="http://127.0.0.1/hook")
    slow = asyncio.create_task(office.worker(renew_s=1_000).work_on_one())
    await office.begun.wait()
    while "one" not in await office.store.call(lambda s: s.parts(job.job_id)):
        await asyncio.sleep(0.001)
    office.now += 11
    other = asyncio.create_task(office.worker().work_on_one())
    while (await office.desk.job(job.job_id, "kim")).attempts < 2:
        await asyncio.sleep(0.001)
    office.gate.set()
    assert await other
    assert await slow
    assert await office.state(job) is JobState.DONE
    assert len(await office.desk.deliveries(job.job_id, "kim")) == 1


async def test_a_recording_is_fetched(office: Office) -> None:
    job = await office.submit(url="http://127.0.0.1/a.flac")
    await office.worker().work_on_one()
    assert await office.state(job) is JobState.DONE
    assert office.heard == [b"from afar"]
    refused = await office.submit(url="http://metadata.invalid/")
    await office.worker().work_on_one()
    assert (await office.desk.job(refused.job_id, "kim")).state is JobState.QUEUED  # no such name, for now


async def test_watching_tells_each_change_until_the_end(office: Office) -> None:
    job = await office.submit()
    seen = asyncio.create_task(states_of(office, job))
    await office.worker().work_on_one()
    states = await asyncio.wait_for(seen, 30)
    assert states[-1] is JobState.DONE
    assert states == sorted(states, key=list(JobState).index)


async def states_of(office: Office, job: Job) -> list[JobState]:
    return [seen.state async for seen in office.desk.watch(job.job_id, job.owner)]


async def test_a_store_that_fails_is_waited_for(office: Office, tmp_path: Path) -> None:
    addresses = iter(["postgresql://nobody@127.0.0.1:1/none", f"sqlite:///{tmp_path / 'jobs.db'}"])
    office.store = StoreThreads(lambda: open_store(next(addresses)))
    office.desk = JobDesk(office.store, office.audio, office.rules)
    with pytest.raises(JobsUnavailable):
        await office.submit()
    assert list((tmp_path / "audio").iterdir()) == []
    job = await office.submit()
    assert await office.worker().work_on_one()
    assert await office.state(job) is JobState.DONE


async def test_all_of_a_key_is_forgotten(office: Office, tmp_path: Path) -> None:
    office.gate.clear()
    await office.submit(webhook_url="http://127.0.0.1/hook")
    working = asyncio.create_task(office.worker().work_on_one())
    await office.begun.wait()
    await office.submit()
    other = await office.submit("lee")
    assert await office.desk.forget_all("kim") == 2
    await asyncio.wait_for(working, 30)
    assert await office.desk.newest("kim", None, 9) == []
    assert [path.name for path in (tmp_path / "audio").iterdir()] == [other.job_id]
    assert await office.desk.forget_all("kim") == 0
    office.gate.set()
    assert await office.worker().work_on_one()
    assert await office.state(other) is JobState.DONE
