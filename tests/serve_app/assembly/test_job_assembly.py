"""The queue as an ingress replica has it: settings, recogniser, doors, worker and webhooks together."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fakes.app_server import running_app
from fakes.fake_service import FakeService
from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from serve_app.assembly.jobs import JobEraser, Jobs, assemble_jobs, transcribing_jobs
from serve_app.core.erasure import Erasure
from serve_app.core.errors import UnsupportedLanguage
from serve_app.jobs.desk import NewJob
from serve_app.jobs.records import Job, JobState
from serve_app.service.contract import RecordingOptions
from serve_app.settings import Settings
from serve_app.telemetry.metrics import no_metrics
from serve_app.web.door import Door
from serve_app.web.job_kinds import job_kinds

KEY = "k" * 32


def recording() -> io.BytesIO:
    file = io.BytesIO()
    samples = speak([Say(n, ms=250, pause_ms=100 if n % 7 else 900) for n in range(1, 240)])
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    file.seek(0)
    return file


def jobs_of(folder: Path, recogniser: FakeRecogniser, refuse: Any = None, **settings: Any) -> Jobs:
    chosen = Settings(cache_dir=folder, language="en", outbound_networks=("127.0.0.0/8",), **settings)

    def require_served(options: RecordingOptions) -> None:
        if refuse is not None:
            raise refuse

    transcribe_with = transcribing_jobs(
        chosen, voice=FakeVoice(), recogniser=recogniser, speakers=None, require_served=require_served
    )
    return assemble_jobs(chosen, job_kinds(Door(FakeService(), chosen, no_metrics()), transcribe_with))


async def ended(jobs: Jobs, job: Job) -> Job:
    async for seen in jobs.desk.watch(job.job_id, job.owner):
        last = seen
    return last


async def submitted(jobs: Jobs, **fields: Any) -> Job:
    return await jobs.desk.submit(
        NewJob(owner="kim", kind="native", parameters=(), file=recording(), **fields)
    )


def database_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("jobs.db*"))


async def stopped(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("key", [None, KEY])
async def test_a_recording_is_taken_up_by_the_next_process(key: str | None, tmp_path: Path) -> None:
    came: list[dict[str, Any]] = []

    async def hook(request: Request) -> Response:
        came.append(await request.json())
        return Response(status_code=204)

    settings = {} if key is None else {"storage_key": key}
    undisturbed = jobs_of(tmp_path / "other", FakeRecogniser(), **settings)
    running = asyncio.create_task(undisturbed.run())
    text = json.loads(
        await undisturbed.desk.result(await ended(undisturbed, await submitted(undisturbed))) or b"{}"
    )["transcript"]
    await stopped(running)
    assert text.startswith("w1 w2 w3")

    first = FakeRecogniser()
    jobs = jobs_of(tmp_path / "this", first, **settings)
    with running_app(Starlette(routes=[Route("/hook", hook, methods=["POST"])])) as port:
        job = await submitted(jobs, webhook_url=f"http://127.0.0.1:{port}/hook")
        running = asyncio.create_task(jobs.run())
        while len(first.calls) < 3:
            await asyncio.sleep(0.001)
        first.go_on.clear()  # nothing more comes of this process
        while first.called.is_set() and len(first.calls) < 4:
            await asyncio.sleep(0.001)
        await stopped(running)

        second = FakeRecogniser()
        jobs = jobs_of(tmp_path / "this", second, **settings)
        running = asyncio.create_task(jobs.run())
        done = await asyncio.wait_for(ended(jobs, job), 60)
        assert done.state is JobState.DONE
        result = json.loads(await jobs.desk.result(done) or b"{}")
        while not came:
            await asyncio.sleep(0.01)
        await stopped(running)
    assert result["transcript"] == text
    assert 0 < len(second.jobs) < len(first.jobs) + len(second.jobs)
    assert [event["data"]["result"]["transcript"] for event in came] == [text]
    assert (b"w1 w2 w3" in database_in(tmp_path / "this")) is (key is None)


async def test_a_language_that_nothing_here_knows_ends_the_job(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, FakeRecogniser(), refuse=UnsupportedLanguage("no model here knows 'xx'"))
    running = asyncio.create_task(jobs.run())
    done = await asyncio.wait_for(ended(jobs, await submitted(jobs)), 60)
    await stopped(running)
    assert (done.state, done.error) == (JobState.FAILED, "no model here knows 'xx'")


async def test_a_replica_without_workers_only_takes_jobs(tmp_path: Path) -> None:
    recogniser = FakeRecogniser()
    jobs = jobs_of(tmp_path, recogniser, job_workers=0)
    running = asyncio.create_task(jobs.run())
    job = await submitted(jobs)
    await asyncio.sleep(0.05)
    assert (await jobs.desk.job(job.job_id, "kim")).state is JobState.QUEUED
    await stopped(running)
    assert recogniser.jobs == []


async def test_jobs_of_a_key_are_erased_on_request(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, FakeRecogniser())
    await submitted(jobs)
    eraser = JobEraser(jobs.desk)
    assert await eraser.erase(Erasure(clip_id="a")) == 0
    assert await eraser.erase(Erasure(key_id="lee")) == 0
    assert await eraser.erase(Erasure(key_id="kim")) == 1
    assert await jobs.desk.newest("kim", None, 9) == []
