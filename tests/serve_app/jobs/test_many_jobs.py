"""A hundred jobs of two keys, two processes that work on them, one of which is killed."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from serve_app.jobs.addresses import OutboundRules
from serve_app.jobs.audio_files import StoredAudio
from serve_app.jobs.desk import JobDesk, NewJob
from serve_app.jobs.opening import open_store
from serve_app.jobs.records import Job, JobState
from serve_app.jobs.store import JobStore
from serve_app.jobs.threads import StoreThreads

NUM_JOBS = 100
TIMEOUT_S = 240

pytestmark = pytest.mark.slow


def begin(address: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    log.touch()
    command = [sys.executable, "-m", "fakes.job_process", address, str(folder), str(log)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def begun(log: Path) -> list[str]:
    return [line.split()[1] for line in log.read_text().splitlines() if line.startswith("begin")]


async def queue(address: str, folder: Path) -> dict[str, str]:
    """All of one key first, then all of the other; owners by job."""
    store = StoreThreads(lambda: open_store(address))
    desk = JobDesk(store, StoredAudio(str(folder / "audio")), OutboundRules())
    owners = {}
    for owner in ("kim", "lee"):
        for number in range(NUM_JOBS // 2):
            text = f"{owner} {number}"
            job = await desk.submit(
                NewJob(
                    owner=owner,
                    kind="native",
                    parameters=(),
                    file=io.BytesIO(text.encode()),
                    webhook_url="https://example.com/hook",
                )
            )
            owners[job.job_id] = owner
    await store.close()
    return owners


async def test_each_is_done_once_and_keys_take_turns(store_address: str, tmp_path: Path) -> None:
    owners = await queue(store_address, tmp_path)
    store = open_store(store_address)
    logs = [tmp_path / f"{number}.log" for number in range(2)]
    processes = [begin(store_address, tmp_path, log) for log in logs]
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while any("ready" not in log.read_text() for log in logs):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        (tmp_path / "go").touch()
        while len(begun(logs[0])) < 10:  # in the middle of one
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)
        processes[0].kill()
        processes[0].wait()
        while len(done := ended(store)) < NUM_JOBS:
            assert time.monotonic() < deadline, Counter(job.state for job in all_jobs(store))
            await asyncio.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for job in done:
        result = store.result(job.job_id)
        assert result is not None
        assert job.owner.encode() in result
    # Its webhook was written with each result, so there is one for every time that a job was finished.
    webhooks = [one for job in done for one in store.deliveries(job.owner, job.job_id)]
    assert len(webhooks) == len({one.delivery_id for one in webhooks}) == NUM_JOBS
    # What was begun twice is what the killed process left, and its parts were not done again.
    times = Counter(job_id for log in logs for job_id in begun(log))
    assert set(times) == set(owners)
    twice = [job_id for job_id, count in times.items() if count > 1]
    assert len(twice) <= 1
    assert all(store_attempts(store, owners, job_id) == 2 for job_id in twice)
    # Keys take turns from the first job on, though all of one key's were there before the other's.
    begun_at = sorted(done, key=lambda job: job.started_s or 0)
    lead = 0
    for job in begun_at:
        lead += 1 if job.owner == "kim" else -1
        assert abs(lead) <= 2
    store.close()


def all_jobs(store: JobStore) -> list[Job]:
    return [job for owner in ("kim", "lee") for job in store.newest(owner, state=None, limit=NUM_JOBS)]


def ended(store: JobStore) -> list[Job]:
    return [job for job in all_jobs(store) if job.state is JobState.DONE]


def store_attempts(store: JobStore, owners: dict[str, str], job_id: str) -> int:
    return int(store.get(job_id, owners[job_id]).attempts)
