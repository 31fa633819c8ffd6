"""What a real recogniser says of itself to the scaling policy."""

from __future__ import annotations

import asyncio
import random
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.fake_transcriber import FakeTranscriber
from serve_app.asr.recogniser import Recogniser
from serve_app.asr.scheduler import SchedulerLimits
from serve_app.capacity.throughput import MIN_SAMPLES, DecodeCost, DecodeSample
from serve_app.core.jobs import DecodeJob, Role


def timed(cost: DecodeCost, batches: list[list[float]], noise: float = 0.0) -> list[DecodeSample]:
    dice = random.Random(1)
    return [
        DecodeSample(tuple(batch), cost.mean_s(batch) * dice.uniform(1 - noise, 1 + noise))
        for batch in batches
    ]


BATCHES = [[1.0 + i % 5] * (1 + i % 3) + [0.5 * (1 + i % 4)] for i in range(60)]


def test_the_parts_are_found_again() -> None:
    cost = DecodeCost(0.02, 0.004, 0.006)
    found = DecodeCost.fitted(timed(cost, BATCHES))
    assert (found.fixed_s, found.per_longest, found.per_audio) == pytest.approx((0.02, 0.004, 0.006))
    assert found.spread == pytest.approx([1.0] * len(BATCHES))


def test_the_spread_keeps_the_noise_and_no_bias() -> None:
    found = DecodeCost.fitted(
        timed(DecodeCost(0.02, 0.0, 0.03), [[1.0 + i % 7] for i in range(200)], noise=0.4)
    )
    assert sum(found.spread) / len(found.spread) == pytest.approx(1.0)
    assert max(found.spread) == pytest.approx(1.4, rel=0.1)
    assert found.per_longest == 0.0


@given(st.lists(st.tuples(st.floats(0.1, 30), st.integers(1, 8), st.floats(0.001, 5)), min_size=MIN_SAMPLES))
def test_whatever_was_timed_costs_are_never_negative(rows: list[tuple[float, int, float]]) -> None:
    samples = [DecodeSample((audio_s,) * batch, busy_s) for audio_s, batch, busy_s in rows]
    cost = DecodeCost.fitted(samples)
    assert min(cost.fixed_s, cost.per_longest, cost.per_audio) >= 0
    assert cost.mean_s([1.0]) > 0


def test_batches_make_it_faster() -> None:
    cost = DecodeCost(0.05, 0.01, 0.001)
    assert cost.mean_s([4.0] * 8) < 2 * cost.mean_s([4.0])


@pytest.mark.parametrize(
    "samples",
    [
        [DecodeSample((1.0,), 0.1)] * (MIN_SAMPLES - 1),
        [DecodeSample((1.0,), 0.0)] * MIN_SAMPLES,
        [DecodeSample((), 0.1)] * MIN_SAMPLES,
    ],
)
def test_what_was_not_timed(samples: list[DecodeSample]) -> None:
    with pytest.raises(ValueError):
        DecodeCost.fitted(samples)


@pytest.mark.parametrize(
    "wrong", [(-1.0, 0.0, 0.0, (1.0,)), (float("nan"), 0.0, 0.0, (1.0,)), (1.0, 0.0, 0.0, ())]
)
def test_impossible_costs(wrong: tuple[float, float, float, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError):
        DecodeCost(*wrong)


def job(job_id: int, role: Role = Role.FINAL) -> DecodeJob:
    return DecodeJob(job_id, role, np.zeros(32_000, np.int16), "en")


async def test_what_waits_what_comes_and_how_fast_it_is() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({Role.FINAL: engine}, SchedulerLimits(num_workers=1))
    assert recogniser.stats().capacity_audio_s_per_s == 0
    jobs = [job(0), job(1), job(2), job(3, Role.RECORDING)]

    async def decode() -> None:
        assert len([result async for result in recogniser.decode(jobs)]) == 4

    decoding = asyncio.create_task(decode())
    assert await asyncio.to_thread(engine.begun.acquire, timeout=60)
    waiting = recogniser.stats()
    assert (waiting.waiting_audio_s, waiting.waiting_recording_audio_s) == (6.0, 2.0)
    assert waiting.arriving_audio_s_per_s == pytest.approx(6.0 / (10 * (1 - np.exp(-0.5))), rel=0.2)
    gate.set()
    await decoding
    done = recogniser.stats()
    assert done.waiting_audio_s == done.waiting_recording_audio_s == 0
    assert done.capacity_audio_s_per_s > 0
    await recogniser.close()
