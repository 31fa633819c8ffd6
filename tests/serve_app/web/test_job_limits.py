"""A job's audio counts against its key's limits: it waits for them in the queue, and is charged once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes.encoded_audio import chirp, wav
from fakes.job_office import CLIENT, JobOffice, job_office
from fakes.local_metrics import LocalInstruments
from serve_app.access.caller import KeyLimits
from serve_app.access.limits import Limiter
from serve_app.core.errors import InferenceError

AUDIO = {"content-type": "audio/wav"}
PATHS = ("/api/jobs", "/v1/listen?callback=http://127.0.0.1:9000/done")


def talk(seconds: float) -> bytes:
    return wav(chirp(seconds, 16_000), 16_000)


class Clock:
    """Goes on a little whenever it is read, so that one job is older than the next."""

    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def local() -> LocalInstruments:
    return LocalInstruments()


@pytest.fixture
async def office(tmp_path: Path, clock: Clock, local: LocalInstruments) -> AsyncIterator[JobOffice]:
    limiter = Limiter(of_key=KeyLimits(audio_minutes_per_day=5 / 60))
    async with job_office(tmp_path, limiter=limiter, now_s=clock, local=local) as office:
        yield office


async def queued(office: JobOffice, key: str, seconds: float, path: str = PATHS[0]) -> str:
    headers = {**AUDIO, "x-test-key": key}
    answer = await office.client.post(path, content=talk(seconds), headers=headers)
    assert answer.status_code < 300, answer.text
    body = answer.json()
    job_id: str = body.get("job_id") or body["request_id"]
    return job_id


async def shown(office: JobOffice, job_id: str, key: str) -> Any:
    return (await office.client.get(f"/api/jobs/{job_id}", headers={"x-test-key": key})).json()


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_that_has_used_its_audio_waits_and_others_do_not(
    office: JobOffice, clock: Clock, path: str
) -> None:
    first = await queued(office, "kim", 3, path)
    waits = await queued(office, "kim", 3, path)
    other = await queued(office, "lee", 3, path)
    for _ in range(3):
        assert await office.worker.work_on_one()
    assert not await office.worker.work_on_one()  # it is not tried again at once
    states = [(await shown(office, job, key))["status"] for job, key in ((first, "kim"), (other, "lee"))]
    assert states == ["done", "done"]
    assert (await shown(office, waits, "kim"))["status"] == "queued"
    assert len(office.service.uploads) == 2
    # Asked again in vain, however often: it costs no attempt, and its audio is not decoded again.
    (office.folder / "audio" / waits).rename(office.folder / "aside")
    for _ in range(20):
        clock.now_s += 601
        assert await office.worker.work_on_one()
    assert (await shown(office, waits, "kim"))["status"] == "queued"
    (office.folder / "aside").rename(office.folder / "audio" / waits)
    office.door.limiter = Limiter(of_key=KeyLimits(audio_minutes_per_day=5 / 60))  # another day
    clock.now_s += 601
    assert await office.worker.work_on_one()
    assert (await shown(office, waits, "kim"))["status"] == "done"


async def test_a_job_that_is_taken_up_again_is_charged_once(office: JobOffice, clock: Clock) -> None:
    job = await queued(office, "kim", 3)
    office.service.transcribe_error = InferenceError("the models are gone")
    for _ in range(2):
        assert await office.worker.work_on_one()
        clock.now_s += 601
    office.service.transcribe_error = None
    assert await office.worker.work_on_one()
    assert (await shown(office, job, "kim"))["status"] == "done"
    smaller = await queued(office, "kim", 1)
    assert await office.worker.work_on_one()
    assert (await shown(office, smaller, "kim"))["status"] == "done"


async def test_more_than_a_key_may_ever_send_is_refused_for_good(office: JobOffice) -> None:
    job = await queued(office, "kim", 6)
    assert await office.worker.work_on_one()
    body = await shown(office, job, "kim")
    assert body["status"] == "failed"
    assert "this key may send" in body["error"]["message"]
    assert office.service.uploads == []


async def test_addresses_are_kept_only_where_they_have_limits(tmp_path: Path, clock: Clock) -> None:
    limits = KeyLimits(audio_minutes_per_day=5 / 60)
    for name, limiter, states in (
        ("limited", Limiter(of_address=limits), ["done", "queued"]),
        ("free", Limiter(), ["done", "done"]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        async with job_office(folder, limiter=limiter, now_s=clock) as office:
            jobs = [await queued(office, "kim", 3) for _ in range(2)]
            for _ in jobs:
                assert await office.worker.work_on_one()
            assert [(await shown(office, job, "kim"))["status"] for job in jobs] == states
        database = b"".join(path.read_bytes() for path in folder.glob("jobs.db*"))
        assert (CLIENT.encode() in database) is (name == "limited")


async def test_jobs_are_counted(office: JobOffice, clock: Clock, local: LocalInstruments) -> None:
    for _ in range(2):
        await queued(office, "kim", 1)
    cancelled = await queued(office, "kim", 1)
    await office.client.delete(f"/api/jobs/{cancelled}", headers={"x-test-key": "kim"})
    clock.now_s += 30
    assert await office.worker.work_on_one()
    await office.worker.sweep_once()
    assert local.value("stt_recording_jobs", {"state": "queued"}) == 1
    assert local.value("stt_recording_jobs", {"state": "running"}) == 0
    assert local.value("stt_recording_jobs_ended_total", {"state": "done"}) == 1
    assert local.value("stt_recording_jobs_ended_total", {"state": "cancelled"}) == 1
    assert local.value("stt_recording_job_wait_seconds_sum", {}) == pytest.approx(30, abs=1)


async def test_webhooks_are_counted(tmp_path: Path, clock: Clock, local: LocalInstruments) -> None:
    answers = [503, 204, 410]
    outside = httpx.MockTransport(lambda request: httpx.Response(answers.pop(0)))
    async with job_office(tmp_path, now_s=clock, local=local, transport=outside) as office:
        for outcome in ("retried", "delivered", "failed"):
            await queued(office, "kim", 1, "/api/jobs?webhook_url=http://127.0.0.1:9000/hook")
            assert await office.worker.work_on_one()
            assert await office.webhooks.send_due() == 1
            assert local.value("stt_webhook_attempts_total", {"outcome": outcome}) == 1
