"""A model that hangs: noticed by its replica, and the work goes to another one, each word once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import numpy as np
import pytest

from fakes.fake_time import FakeClock
from fakes.fake_transcriber import FakeTranscriber
from fakes.ports import FakeVoice
from fakes.talk import Say, hear, speak
from fakes.told_events import ToldEvents
from serve_app.asr import recogniser as recogniser_module
from serve_app.asr.recogniser import FIRST_DEADLINE_S, MIN_DEADLINE_S, Recogniser
from serve_app.asr.scheduler import SchedulerLimits
from serve_app.core.errors import ReplicaUnhealthy
from serve_app.core.events import Final, SessionError
from serve_app.core.jobs import DecodeJob, DecodeResult, ModelInfo, Role
from serve_app.service.conductor import Conductor, ConductorConfig
from serve_app.service.counters import Counters
from serve_app.service.live import Live
from serve_app.service.ports import ReplicaLost
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session


def job(job_id: int, seconds: float = 1.0) -> DecodeJob:
    return DecodeJob(job_id, Role.FINAL, np.zeros(round(16_000 * seconds), np.int16), "en")


def look_for(recogniser: Recogniser, clock: FakeClock, seconds: float) -> None:
    """Health checks every five seconds; raises as they do."""
    for _ in range(round(seconds / 5)):
        clock.pass_s(5)
        recogniser.check()


async def begun(engine: FakeTranscriber) -> None:
    assert await asyncio.to_thread(engine.begun.acquire, timeout=60)


async def test_a_decode_that_hangs_is_given_back_with_all_that_waits() -> None:
    gate, clock = threading.Event(), FakeClock()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({Role.FINAL: engine}, SchedulerLimits(num_workers=1), clock=clock)
    jobs = [asyncio.create_task(recogniser.submit(job(number))) for number in range(3)]
    await begun(engine)
    look_for(recogniser, clock, FIRST_DEADLINE_S)
    with pytest.raises(ReplicaUnhealthy, match=r"a decode of 1\.0 s has taken over 300 s: the model hangs"):
        look_for(recogniser, clock, 5)
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results] == [ReplicaUnhealthy] * 3
    with pytest.raises(ReplicaUnhealthy):
        await recogniser.submit(job(4))
    gate.set()
    with pytest.raises(ReplicaUnhealthy):  # it stays so until it has been replaced
        recogniser.check()
    await recogniser.close()
    assert len(engine.batches) == 1


async def test_the_deadline_follows_what_decodes_take_here(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(np.arange(0.0, 1e6, 4.0).tolist())
    monkeypatch.setattr(recogniser_module, "perf_counter", lambda: next(times))
    gate, clock = threading.Event(), FakeClock()
    gate.set()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({Role.FINAL: engine}, SchedulerLimits(num_workers=1), clock=clock)
    for number in range(4):  # each takes 4 s of this clock for 1 s of audio
        await recogniser.submit(job(number))
        await begun(engine)
    gate.clear()
    hung = asyncio.create_task(recogniser.submit(job(9, 4.0)))
    await begun(engine)
    look_for(recogniser, clock, 300)  # 30 times 2 s for each of 5 s
    with pytest.raises(ReplicaUnhealthy, match="has taken over 300 s"):
        look_for(recogniser, clock, 5)
    with pytest.raises(ReplicaUnhealthy):
        await hung
    gate.set()
    await recogniser.close()


async def test_waiting_in_the_queue_does_not_count() -> None:
    clock = FakeClock()
    gates = [threading.Event() for _ in range(3)]
    engine = FakeTranscriber(script=lambda job: str(gates[job.job_id].wait(60)))
    recogniser = Recogniser({Role.FINAL: engine}, SchedulerLimits(num_workers=1), clock=clock)
    jobs = [asyncio.create_task(recogniser.submit(job(number))) for number in range(3)]
    for gate in gates:
        await begun(engine)
        look_for(recogniser, clock, MIN_DEADLINE_S - 5)
        gate.set()
    results = await asyncio.gather(*jobs)
    assert [result.job_id for result in results] == [0, 1, 2]
    recogniser.check()
    await recogniser.close()


class TwoReplicas:
    """A recogniser's port with two replicas behind it, asked in turn: as a deployment's handle behaves."""

    def __init__(self, replicas: Sequence[Recogniser]) -> None:
        self.replicas = list(replicas)
        self.num_calls = 0

    async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncIterator[DecodeResult]:
        self.num_calls += 1
        replica = self.replicas[self.num_calls % len(self.replicas)]
        try:
            async for result in replica.decode(jobs):
                yield result
        except ReplicaUnhealthy as error:
            raise ReplicaLost(str(error)) from error

    async def describe(self) -> tuple[ModelInfo, ...]:
        return self.replicas[0].models()


class Words(FakeTranscriber):
    """Hears the spoken numbers of `fakes.talk`; hangs after `hangs_from` batches, until the gate opens."""

    def __init__(self, hangs_from: int, gate: threading.Event) -> None:
        super().__init__(script=lambda job: "".join(word.word for word in hear(job.audio)).strip())
        self._left, self._held = hangs_from, gate
        self.hangs = threading.Event()

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        self._left -= 1
        if self._left < 0:
            self.hangs.set()
            assert self._held.wait(60)
        return super().transcribe(jobs)


@pytest.mark.parametrize("hangs_from", [0, 1, 2])
async def test_a_session_over_a_replica_that_hangs_has_each_word_once(hangs_from: int) -> None:
    gate, clock = threading.Event(), FakeClock()
    hanging, sound = Words(hangs_from, gate), Words(10_000, gate)
    broken = Recogniser({Role.FINAL: hanging}, SchedulerLimits(num_workers=2), clock=clock)
    replicas = TwoReplicas([broken, Recogniser({Role.FINAL: sound}, SchedulerLimits(num_workers=2))])
    conductor = Conductor(
        ConductorConfig(tick_s=0.001),
        voice=FakeVoice(),
        interim=replicas,
        final=replicas,
        counters=Counters(),
    )
    running = asyncio.create_task(conductor.run())
    live = Live(
        Session(SessionOptions("s", language="en", partial_interval_ms=200)),
        max_buffer_ms=60_000,
        wake=conductor.wake,
    )
    conductor.add(live)
    told = ToldEvents(live)
    audio = speak([Say(number, pause_ms=700) for number in range(8)])
    for start in range(0, len(audio), 3200):
        await live.push(audio[start : start + 3200])
    live.end()

    async def replace_the_broken() -> None:
        assert await asyncio.to_thread(hanging.hangs.wait, 60)
        with suppress(ReplicaUnhealthy):
            while True:
                await asyncio.sleep(0)
                look_for(broken, clock, 5)
        replicas.replicas = replicas.replicas[1:]  # as Serve does

    replacing = asyncio.create_task(replace_the_broken())
    try:
        events = await told.until_ended()
    finally:
        gate.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await conductor.close()
    await replacing
    said = " ".join(event.text for event in events if isinstance(event, Final))
    assert said.split() == [f"w{number}" for number in range(8)]
    assert not [event for event in events if isinstance(event, SessionError)]
