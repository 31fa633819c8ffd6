"""A recording as a job while the processes that work on it are killed, one after another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.jobs import long_recording, receiving, run_job
from benchmarks.service import ServiceUnderTest
from sotto_client.jobs import cancel_job, create_job, list_jobs, wait_for_job
from sotto_client.recordings import UploadOptions

pytestmark = [pytest.mark.cluster, pytest.mark.models]

VICTIMS = ("Ingress", "Recogniser")
MINUTES = 10


async def test_a_job_outlives_the_processes_that_work_on_it(
    service: ServiceUnderTest, tmp_path: Path
) -> None:
    recording = tmp_path / "long.wav"
    long_recording(recording, MINUTES)
    with receiving() as hook:
        undisturbed = await run_job(service, recording, hook)
        disturbed = await run_job(service, recording, hook, VICTIMS)
        for _ in range(600):
            if len(hook.times_by_id) == 2:
                break
            await asyncio.sleep(0.1)
    assert (undisturbed.job.status, disturbed.job.status) == ("done", "done")
    assert disturbed.killed == VICTIMS
    assert disturbed.text == undisturbed.text
    assert len(disturbed.text.split()) > 100 * MINUTES
    assert sorted(hook.times_by_id.values()) == [1, 1]
    said = [event["data"]["result"]["transcript"] for _, event in hook.came]
    assert said == [undisturbed.text] * 2


async def test_a_job_is_cancelled_while_it_is_worked_on(service: ServiceUnderTest, tmp_path: Path) -> None:
    recording = tmp_path / "long.wav"
    long_recording(recording, MINUTES)
    options = UploadOptions(language="en")
    job = await create_job(recording, url=service.url, options=options, idempotency_key="once")
    again = await create_job(recording, url=service.url, options=options, idempotency_key="once")
    assert again.job_id == job.job_id
    assert job.job_id in {one.job_id for one in await list_jobs(url=service.url)}
    assert (await cancel_job(job.job_id, url=service.url)).status == "cancelled"
    assert (await wait_for_job(job.job_id, url=service.url)).status == "cancelled"
