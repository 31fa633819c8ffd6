"""Short finals on the CPU, everything else on the GPU, and nothing lost where the CPU cannot."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from fakes.ports import FakeRecogniser
from serve_app.core.jobs import (
    AttentionRule,
    DecodeJob,
    Role,
    Transcript,
)
from serve_app.service.ports import ReplicaLost
from serve_app.service.routing import ShortAudioRoute


def job(job_id: int, seconds: float, role: Role = Role.FINAL, **fields: object) -> DecodeJob:
    return DecodeJob(job_id, role, np.zeros(round(seconds * 16_000), np.int16), **fields)  # type: ignore[arg-type]


def route(short: FakeRecogniser, usual: FakeRecogniser, max_in_flight: int = 8) -> ShortAudioRoute:
    return ShortAudioRoute(short, usual, max_audio_s=3.0, max_in_flight=max_in_flight)


async def decoded(port: ShortAudioRoute, jobs: list[DecodeJob]) -> list[int]:
    results = [result async for result in port.decode(jobs)]
    assert all(isinstance(result, Transcript) for result in results)
    return sorted(result.job_id for result in results)


def ids(recogniser: FakeRecogniser) -> set[int]:
    return {job.job_id for job in recogniser.jobs}


async def test_only_short_finals_are_routed() -> None:
    short, usual = FakeRecogniser(), FakeRecogniser()
    jobs = [
        job(1, 1.0),
        job(2, 3.0),
        job(3, 3.1),
        job(4, 1.0, Role.RECORDING),
        job(5, 1.0, Role.INTERIM),
        job(6, 1.0, attention=AttentionRule()),
    ]
    assert await decoded(route(short, usual), jobs) == [1, 2, 3, 4, 5, 6]
    assert ids(short) == {1, 2}
    assert ids(usual) == {3, 4, 5, 6}


async def test_the_long_ones_do_not_wait_for_the_short_ones() -> None:
    slow = FakeRecogniser()
    slow.go_on.clear()
    order = []
    async for result in route(slow, FakeRecogniser()).decode([job(1, 1.0), job(2, 9.0)]):
        order.append(result.job_id)
        slow.go_on.set()
    assert order == [2, 1]


@pytest.mark.parametrize(
    "short", [FakeRecogniser(dies_on={1}), FakeRecogniser(fails=lambda j: j.job_id == 1)]
)
async def test_what_the_cpu_cannot_do_the_gpu_does(short: FakeRecogniser) -> None:
    usual = FakeRecogniser()
    port = route(short, usual)
    assert await decoded(port, [job(1, 1.0), job(2, 1.0)]) == [1, 2]
    assert ids(usual) == {1}
    assert await decoded(port, [job(3, 1.0)]) == [3]
    assert 3 in ids(short)


async def test_more_than_it_can_take_goes_to_the_gpu() -> None:
    short, usual = FakeRecogniser(), FakeRecogniser()
    short.go_on.clear()
    port = route(short, usual, max_in_flight=2)
    first = asyncio.create_task(decoded(port, [job(1, 1.0), job(2, 1.0), job(3, 1.0)]))
    await short.called.wait()
    assert await decoded(port, [job(4, 1.0)]) == [4]
    short.go_on.set()
    assert await first == [1, 2, 3]
    assert ids(short) == {1, 2}
    assert ids(usual) == {3, 4}


async def test_a_lost_gpu_is_told_as_such() -> None:
    port = route(FakeRecogniser(), FakeRecogniser(dies_on={1}))
    with pytest.raises(ReplicaLost):
        await decoded(port, [job(1, 1.0), job(2, 9.0)])
