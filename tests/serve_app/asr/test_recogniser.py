"""The recogniser with engines that run no model: order, isolation, choice of engine, closing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from fakes.fake_transcriber import FakeTranscriber, fake_info
from serve_app.asr.recogniser import Recogniser
from serve_app.asr.scheduler import SchedulerLimits
from serve_app.core.errors import ModelUnavailable, QueueFull
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    Role,
    Task,
    Transcript,
)

F, I, O = Role.FINAL, Role.INTERIM, Role.RECORDING  # noqa: E741


def job(job_id: int, role: Role = F, *, language: str | None = "en", **more: object) -> DecodeJob:
    return DecodeJob(job_id, role, np.zeros(1_600, np.int16), language, **more)  # type: ignore[arg-type]


def one_worker(**more: object) -> SchedulerLimits:
    return SchedulerLimits(num_workers=1, **more)  # type: ignore[arg-type]


async def begun(engine: FakeTranscriber) -> None:
    """Wait until a worker has entered the engine."""
    assert await asyncio.to_thread(engine.begun.acquire, timeout=60)


async def collect(recogniser: Recogniser, jobs: Sequence[DecodeJob]) -> dict[int, DecodeResult]:
    return {result.job_id: result async for result in recogniser.decode(jobs)}


async def test_finals_first_whatever_came_first() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({F: engine}, one_worker())
    first = asyncio.create_task(recogniser.submit(job(0, I)))
    await begun(engine)
    rest = asyncio.create_task(collect(recogniser, [job(1, O), job(2, I), job(3, F), job(4, F)]))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, rest)
    assert [ids for _, ids in engine.batches] == [(0,), (3,), (4,), (2,), (1,)]
    await recogniser.close()


async def test_results_come_as_they_are_done_and_say_how_long_they_waited() -> None:
    gates = {1: threading.Event(), 2: threading.Event()}

    def wait_and_say(decoded: DecodeJob) -> str:
        assert gates[decoded.job_id].wait(10)
        return "said"

    recogniser = Recogniser({F: FakeTranscriber(script=wait_and_say)}, SchedulerLimits(num_workers=2))
    results = recogniser.decode([job(1), job(2)])
    gates[2].set()
    assert (await anext(results)).job_id == 2
    gates[1].set()
    last = await anext(results)
    assert isinstance(last, Transcript)
    assert last.job_id == 1
    assert last.timing.queue_wait_ms > 0
    await recogniser.close()


async def test_the_loop_goes_on_while_a_model_runs() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({F: engine}, one_worker())
    running = asyncio.create_task(recogniser.submit(job(1)))
    await begun(engine)
    assert not running.done()
    gate.set()
    assert (await running).job_id == 1
    await recogniser.close()


async def test_interims_leave_a_worker_for_finals() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({F: engine}, SchedulerLimits(num_workers=2, max_interim_workers=1))
    waiting = asyncio.create_task(collect(recogniser, [job(n, I) for n in range(4)]))
    await begun(engine)
    final = asyncio.create_task(recogniser.submit(job(9, F)))
    await begun(engine)
    assert engine.batches == [(I, (0,)), (F, (9,))]
    assert recogniser.stats().roles[I].num_waiting == 3
    assert recogniser.stats().waiting_audio_s == pytest.approx(0.3)
    gate.set()
    await asyncio.gather(waiting, final)
    assert recogniser.stats().roles[I].num_decoded == 4
    assert recogniser.stats().waiting_audio_s == 0
    await recogniser.close()


async def test_equal_keys_share_a_batch() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate, key=lambda decoded: decoded.beam_size)
    recogniser = Recogniser({F: engine}, one_worker(max_batch={F: 4}))
    first = asyncio.create_task(recogniser.submit(job(0)))
    await begun(engine)
    rest = asyncio.create_task(collect(recogniser, [job(1), job(2, beam_size=5), job(3)]))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, rest)
    assert [ids for _, ids in engine.batches] == [(0,), (1, 3), (2,)]
    await recogniser.close()


class BrokenEngine(FakeTranscriber):
    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        raise KeyError("a fault of ours")


async def test_an_engine_that_raises_fails_its_jobs_and_keeps_its_worker() -> None:
    recogniser = Recogniser({F: BrokenEngine(), I: FakeTranscriber()}, one_worker())
    failed = await recogniser.submit(job(1, F))
    assert isinstance(failed, DecodeFailure)
    assert failed.retryable
    assert isinstance(await recogniser.submit(job(2, I)), Transcript)
    stats = recogniser.stats().roles
    assert (stats[F].num_failed, stats[I].num_decoded) == (1, 1)
    await recogniser.close()


@pytest.mark.parametrize(
    ("role", "language", "task", "model"),
    [
        (I, "en", Task.TRANSCRIBE, "english"),
        (I, "de", Task.TRANSCRIBE, "many"),
        (I, None, Task.TRANSCRIBE, "many"),
        (I, "de", Task.TRANSLATE, "many"),
        (F, "en", Task.TRANSCRIBE, "many"),
        (O, "en", Task.TRANSCRIBE, "many"),
    ],
)
async def test_the_engine_is_the_role_s_own_unless_it_lacks_the_language(
    role: Role, language: str | None, task: Task, model: str
) -> None:
    engines = {I: FakeTranscriber(fake_info("english", ["en"])), F: FakeTranscriber(fake_info("many"))}
    recogniser = Recogniser(engines)
    result = await recogniser.submit(job(1, role, language=language, task=task))
    assert isinstance(result, Transcript)
    assert result.model == model
    await recogniser.close()


@pytest.mark.parametrize("language", ["xx", "de"])
async def test_a_language_that_no_engine_knows_is_never_taken_for_english(language: str) -> None:
    engine = FakeTranscriber(fake_info("tiny.en", ["en"]))
    recogniser = Recogniser({F: engine})
    result = await recogniser.submit(job(1, language=language))
    assert isinstance(result, DecodeFailure)
    assert not result.retryable
    assert language in result.message
    assert "tiny.en" in result.message
    assert engine.batches == []
    await recogniser.close()


async def test_english_engines_asked_to_detect_answer() -> None:
    recogniser = Recogniser({F: FakeTranscriber(fake_info("tiny.en", ["en"]))})
    assert isinstance(await recogniser.submit(job(1, language=None)), Transcript)
    await recogniser.close()


async def test_wrong_audio_fails_alone_and_at_once() -> None:
    recogniser = Recogniser({F: FakeTranscriber()})
    wrong = DecodeJob(1, F, np.zeros(10, np.float32), "en")
    results = await collect(recogniser, [wrong, job(2)])
    assert isinstance(results[1], DecodeFailure)
    assert isinstance(results[2], Transcript)
    await recogniser.close()


async def test_a_full_queue_refuses_jobs_singly() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({F: engine}, one_worker(max_queue=1))
    running = asyncio.create_task(recogniser.submit(job(1)))
    await begun(engine)
    waiting = asyncio.create_task(recogniser.submit(job(2)))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await recogniser.submit(job(3))
    refused = await anext(recogniser.decode([job(4)]))
    assert isinstance(refused, DecodeFailure)
    assert refused.retryable
    gate.set()
    assert {(await running).job_id, (await waiting).job_id} == {1, 2}
    await recogniser.close()


async def test_cancelled_jobs_are_not_begun() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({F: engine}, one_worker())
    first = asyncio.create_task(recogniser.submit(job(1)))
    await begun(engine)
    second = asyncio.create_task(recogniser.submit(job(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    gate.set()
    await first
    await recogniser.close()
    assert [ids for _, ids in engine.batches] == [(1,)]


async def test_results_left_unread_take_back_what_has_not_begun() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({F: engine}, one_worker())
    results = recogniser.decode([job(1), job(2)])
    reading = asyncio.ensure_future(anext(results))
    await begun(engine)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await results.aclose()
    await asyncio.sleep(0)
    assert recogniser.stats().roles[F].num_waiting == 0
    gate.set()
    await recogniser.close()


async def test_closing_fails_what_waits_and_finishes_what_runs() -> None:
    gate = threading.Event()
    engine = FakeTranscriber(gate=gate)
    recogniser = Recogniser({F: engine}, one_worker())
    running = asyncio.create_task(recogniser.submit(job(1)))
    await begun(engine)
    waiting = asyncio.create_task(recogniser.submit(job(2)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(recogniser.close())
    lost = await waiting
    assert isinstance(lost, DecodeFailure)
    assert lost.retryable
    gate.set()
    await closing
    assert isinstance(await running, Transcript)
    late = await recogniser.submit(job(3))
    assert isinstance(late, DecodeFailure)
    with pytest.raises(ModelUnavailable):
        recogniser.check()
    await recogniser.close()


async def test_models_name_every_role() -> None:
    engine = FakeTranscriber(fake_info("base"))
    recogniser = Recogniser({I: engine, F: engine})
    assert [(model.role, model.name) for model in recogniser.models()] == [
        ("final", "base"),
        ("interim", "base"),
    ]
    await recogniser.close()


def test_a_recogniser_needs_a_model() -> None:
    with pytest.raises(ModelUnavailable):
        Recogniser({})
