"""What a real recogniser says of itself to the scaling policy."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from fakes.fake_transcriber import FakeTranscriber

from serve_app.asr.jobs import DecodeJob, Role
from serve_app.asr.recogniser import Recogniser
from serve_app.asr.scheduler import SchedulerLimits


def job(job_id: int, role: Role = Role.FINAL) -> DecodeJob:
    return DecodeJob(job_id, role, np.zeros(32_000, np.int16), "en")


async def test_what_waits_what_comes_and_how_fast_it_is() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({Role.FINAL: engine}, SchedulerLimits(num_workers=1))
    assert recogniser.stats().capacity_audio_s_per_s == 0
    jobs = [job(0), job(1), job(2), job(3, Role.OFFLINE)]

    async def decode() -> None:
        assert len([result async for result in recogniser.decode(jobs)]) == 4

    decoding = asyncio.create_task(decode())
    assert await asyncio.to_thread(engine.begun.acquire, timeout=60)
    waiting = recogniser.stats()
    assert (waiting.waiting_audio_s, waiting.waiting_offline_audio_s) == (6.0, 2.0)
    assert waiting.arriving_audio_s_per_s == pytest.approx(6.0 / (10 * (1 - np.exp(-0.5))), rel=0.2)
    gate.set()
    await decoding
    done = recogniser.stats()
    assert done.waiting_audio_s == done.waiting_offline_audio_s == 0
    assert done.capacity_audio_s_per_s > 0
    await recogniser.close()
