"""A recogniser: transcribers, worker threads and the queue between them. No model ever runs on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from time import monotonic, perf_counter
from typing import NamedTuple

import structlog

from serve_app.asr.canary import CanaryOf
from serve_app.asr.pace import Pace, measure_pace
from serve_app.asr.ports import Transcriber, audio_complaint
from serve_app.asr.scheduler import Batch, Scheduler, SchedulerLimits
from serve_app.capacity.meter import SpeedMeter, demand_s
from serve_app.core.errors import ModelUnavailable, QueueFull, ReplicaUnhealthy
from serve_app.core.idle_check import IdleCheck
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    ModelInfo,
    Role,
    Transcript,
)
from serve_app.core.samples import Pcm16
from serve_app.core.watch import WorkWatch

LIVE_QUIET_S = 3.0
"""So long after the last live job recordings leave a worker free for the next one."""

DEADLINE_MARGIN = 30.0
"""A decode may take so many times what decodes of its length have taken here, and never less or more than"""
MIN_DEADLINE_S = 30.0
MAX_DEADLINE_S = 900.0
"""these; the time in the queue does not count."""
FIRST_DEADLINE_S = 300.0
"""While nothing has been decoded."""
COST_SMOOTHING = 0.1
MAX_FAILED_BATCHES = 3
"""So many in a row without one text, and the models are tried at once."""

_CLOSING = "the recogniser is shutting down"

_log = structlog.get_logger(__name__)
_batch_ids = count(1)


@dataclass(frozen=True, slots=True)
class RoleStats:
    """One role's work: what waits and runs now, and totals since the start. Failed jobs are not decoded."""

    num_waiting: int = 0
    num_running: int = 0
    num_decoded: int = 0
    num_failed: int = 0
    num_batches: int = 0
    audio_s: float = 0.0
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RecogniserStats:
    """A snapshot. `waiting_audio_s`: seconds of audio that no worker has begun, all roles, and recordings'
    part of it. Live audio that arrives, and what all workers can decode (0: not known yet), per second."""

    roles: Mapping[Role, RoleStats]
    waiting_audio_s: float
    num_workers: int
    waiting_recording_audio_s: float = 0.0
    arriving_audio_s_per_s: float = 0.0
    capacity_audio_s_per_s: float = 0.0


class _Waiting:
    """One job in the queue; compared by identity."""

    __slots__ = ("enqueued_s", "future", "job", "transcriber")

    def __init__(
        self, job: DecodeJob, transcriber: Transcriber, future: asyncio.Future[DecodeResult]
    ) -> None:
        self.job = job
        self.transcriber = transcriber
        self.future = future
        self.enqueued_s = perf_counter()


class _Answers(NamedTuple):
    results: list[DecodeResult]
    busy_s: float


class Recogniser:
    """Decodes jobs of every role. Used from one event loop; `close` it there."""

    def __init__(
        self,
        transcribers: Mapping[Role, Transcriber],
        limits: SchedulerLimits | None = None,
        *,
        canaries: Mapping[Role, CanaryOf] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`transcribers`: at least one role's; a role without one is served by another's. `canaries`: what
        they are tried with while they are idle. `clock`: what decodes that hang are noticed by."""
        if not transcribers:
            raise ModelUnavailable("a recogniser needs at least one model")
        self._limits = limits or SchedulerLimits()
        self._transcribers = dict(transcribers)
        self._scheduler: Scheduler[_Waiting] = Scheduler(self._limits)
        self._threads = ThreadPoolExecutor(self._limits.num_workers, thread_name_prefix="recogniser")
        self._running: dict[asyncio.Future[_Answers], Batch[_Waiting]] = {}
        self._watch = WorkWatch(clock)
        self._mean_cost: float | None = None
        self._fault = ""
        self._canaries = dict(canaries or {})
        self._idle_check = IdleCheck(self._try_canaries, clock)
        self._num_failed_in_a_row = 0
        self._stats = {role: RoleStats() for role in Role}
        batches = self._limits.max_batch
        # Finals are what capacity is for: interims give way to them.
        self._meter = SpeedMeter(
            self._limits.num_workers,
            batches.get(Role.FINAL if Role.FINAL in transcribers else Role.INTERIM, 1),
            batches.get(Role.RECORDING, 1),
        )
        self._pace = Pace()
        self._closed = False
        self._live_s = -LIVE_QUIET_S

    async def submit(self, job: DecodeJob) -> DecodeResult:
        """The job's answer. Raises `QueueFull`. Cancelled while it waits, the job is never begun."""
        future = self._enqueue(job)
        self._start_workers()
        return await future

    async def decode(self, jobs: Iterable[DecodeJob]) -> AsyncGenerator[DecodeResult, None]:
        """Every job's answer as soon as it is there, in any order; a full queue fails jobs singly.

        Left early, the iterator takes back what has not begun. Raises `ReplicaUnhealthy`.
        """
        waiting: set[asyncio.Future[DecodeResult]] = set()
        refused: list[DecodeResult] = []
        for job in jobs:
            try:
                waiting.add(self._enqueue(job))
            except QueueFull as error:
                refused.append(DecodeFailure(job.job_id, str(error), retryable=True))
        self._start_workers()
        asked = tuple(waiting)
        try:
            for failure in refused:
                yield failure
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in asked:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # looked at, or asyncio would log that it was not

    def measure(self, speech: Pcm16) -> None:
        """Find out how much of finals (of interims, where there are none) it decodes, for `models`. Blocking:
        about two seconds; before the first job. `speech` as for `measure_pace`."""
        role = Role.FINAL if Role.FINAL in self._transcribers else next(iter(self._transcribers))
        batch = self._limits.max_batch.get(role, 1)
        workers = self._limits.num_workers
        self._pace = measure_pace(self._transcribers[role], role, speech, num_workers=workers, batch=batch)
        if self._pace.audio_s_per_s > 0:
            self._mean_cost = workers / self._pace.audio_s_per_s

    def models(self) -> tuple[ModelInfo, ...]:
        """Every role's model, final first, which also says how fast it is."""
        infos = [self._transcribers[role].info.of_role(role) for role in Role if role in self._transcribers]
        infos[0] = replace(
            infos[0],
            audio_s_per_s=self._pace.audio_s_per_s,
            cpu_s_per_audio_s=self._pace.cpu_s_per_audio_s,
            recent_audio_s_per_s=self._meter.figures(perf_counter()).finals,
        )
        return tuple(infos)

    def stats(self) -> RecogniserStats:
        """A snapshot; cheap."""
        scheduler = self._scheduler
        roles = {
            role: replace(
                self._stats[role],
                num_waiting=scheduler.num_waiting(role),
                num_running=scheduler.num_running(role),
            )
            for role in Role
        }
        waiting_s = {role: sum(waiting.job.audio_s for waiting in scheduler.waiting(role)) for role in Role}
        measured = self._meter.figures(perf_counter())
        return RecogniserStats(
            roles,
            sum(waiting_s.values()),
            self._limits.num_workers,
            waiting_s[Role.RECORDING],
            measured.arriving,
            measured.capacity,
        )

    def check(self) -> None:
        """To be called every few seconds, on the loop. Raises `ModelUnavailable` once it is closed,
        `ReplicaUnhealthy` once a decode hangs or the canaries fail: what waits and what runs is given back
        with this error, and nothing is taken any more.
        """
        if self._closed:
            raise ModelUnavailable(_CLOSING)
        if overdue := self._watch.look():
            self._give_up(f"{overdue}: the model hangs")
        elif self._canaries and not self._fault and (complaint := self._poll_canaries()):
            self._give_up(complaint)
        self.require_healthy()

    def _poll_canaries(self) -> str:
        nothing_waits = not any(self._scheduler.num_waiting(role) for role in Role)
        return self._idle_check.poll(
            idle=nothing_waits and not self._running and perf_counter() - self._live_s > LIVE_QUIET_S,
            has_room=nothing_waits and len(self._running) < self._limits.num_workers,
            is_suspect=self._num_failed_in_a_row >= MAX_FAILED_BATCHES,
        )

    async def _try_canaries(self) -> str:
        for role, canary in self._canaries.items():
            result = await self.submit(canary.canary.job(self._transcribers[role], role))
            if complaint := canary.complaint(result):
                return complaint
        return ""

    def _give_up(self, fault: str) -> None:
        if not self._fault:
            _log.error("the recogniser gives up", reason=fault)
        self._fault = self._fault or fault
        given_back = [*self._scheduler.drain()]
        given_back += [waiting for batch in self._running.values() for waiting in batch.payloads]
        for waiting in given_back:
            if not waiting.future.done():
                waiting.future.set_exception(ReplicaUnhealthy(self._fault))

    def require_healthy(self) -> None:
        """Raises `ReplicaUnhealthy` where a check has found a fault."""
        if self._fault:
            raise ReplicaUnhealthy(self._fault)

    async def close(self) -> None:
        """Fail what waits (retryable), let what runs finish, end the threads. Safe to call again."""
        self._closed = True
        await self._idle_check.close()
        for waiting in self._scheduler.drain():
            _answer(waiting, DecodeFailure(waiting.job.job_id, _CLOSING, retryable=True))
        if self._running and not self._fault:
            await asyncio.wait(self._running)
        self._threads.shutdown(wait=False)

    # -- choosing a model ----------------------------------------------------------------------

    def _transcriber_for(self, job: DecodeJob) -> Transcriber | None:
        """The role's own engine if it can do the language, else the final's, else any that can."""
        roles = (job.model or job.role, Role.FINAL, *Role)
        order = [self._transcribers[role] for role in roles if role in self._transcribers]
        for transcriber in order:
            if transcriber.info.can(job.language, job.task):
                return transcriber
        # Asked to detect with English models only: it is English.
        return order[0] if job.language is None else None

    # -- the queue -------------------------------------------------------------------------------

    def _enqueue(self, job: DecodeJob) -> asyncio.Future[DecodeResult]:
        self.require_healthy()
        future: asyncio.Future[DecodeResult] = asyncio.get_running_loop().create_future()
        failure = self._refusal(job)
        transcriber = None if failure else self._transcriber_for(job)
        if transcriber is None:
            self._stats[job.role] = _plus(self._stats[job.role], num_failed=1)
            future.set_result(failure or DecodeFailure(job.job_id, self._unknown_language(job)))
            return future
        waiting = _Waiting(job, transcriber, future)
        key: Hashable = (id(transcriber), transcriber.batch_key(job))
        self._scheduler.add(job.role, key, waiting)
        if job.role is not Role.RECORDING:
            self._live_s = waiting.enqueued_s
            self._meter.arrived(demand_s(job.audio_s, job.fresh_s), waiting.enqueued_s)
        future.add_done_callback(partial(self._forget_cancelled, waiting))
        return future

    def _refusal(self, job: DecodeJob) -> DecodeFailure | None:
        if self._closed:
            return DecodeFailure(job.job_id, _CLOSING, retryable=True)
        problem = audio_complaint(job)
        return DecodeFailure(job.job_id, problem) if problem else None

    def _unknown_language(self, job: DecodeJob) -> str:
        names = sorted({known.info.model for known in self._transcribers.values()})
        return (
            f"no model here can {job.task.value} the language {job.language!r} (models: {', '.join(names)})"
        )

    def _forget_cancelled(self, waiting: _Waiting, future: asyncio.Future[DecodeResult]) -> None:
        if future.cancelled():
            self._scheduler.remove(waiting.job.role, waiting)

    # -- the workers -----------------------------------------------------------------------------

    def _start_workers(self) -> None:
        loop = asyncio.get_running_loop()
        nobody_live = perf_counter() - self._live_s > LIVE_QUIET_S
        while (batch := self._scheduler.next_batch(nobody_live=nobody_live)) is not None:
            running = loop.run_in_executor(self._threads, _work, batch.payloads)
            self._running[running] = batch
            work = self._watch.begin(
                f"a decode of {_audio_s(batch):.1f} s", self._deadline_s(_audio_s(batch))
            )
            running.add_done_callback(partial(self._finished, batch, work))

    def _deadline_s(self, audio_s: float) -> float:
        if self._mean_cost is None:
            return FIRST_DEADLINE_S
        expected_s = self._mean_cost * (audio_s + 1.0)
        return min(MAX_DEADLINE_S, max(MIN_DEADLINE_S, DEADLINE_MARGIN * expected_s))

    def _finished(self, batch: Batch[_Waiting], work: int, running: asyncio.Future[_Answers]) -> None:
        self._watch.end(work)
        del self._running[running]
        self._scheduler.done(batch)
        if running.cancelled():
            results: list[DecodeResult] = [
                DecodeFailure(waiting.job.job_id, _CLOSING, retryable=True) for waiting in batch.payloads
            ]
            busy_s = 0.0
        else:
            results, busy_s = running.result()
        self._count(batch, results, busy_s)
        for waiting, result in zip(batch.payloads, results, strict=True):
            _answer(waiting, result)
        if not self._closed and not self._fault:
            self._start_workers()

    def _count(self, batch: Batch[_Waiting], results: Sequence[DecodeResult], busy_s: float) -> None:
        num_decoded = sum(isinstance(result, Transcript) for result in results)
        audio_s = _audio_s(batch)
        live = batch.role is not Role.RECORDING
        self._num_failed_in_a_row = 0 if num_decoded else self._num_failed_in_a_row + 1
        if num_decoded:
            cost = busy_s / (audio_s + 1.0)
            self._mean_cost = cost if self._mean_cost is None else _smooth(self._mean_cost, cost)
            own = batch.payloads[0].transcriber is self._transcribers.get(Role.FINAL)
            final = batch.role is Role.FINAL and own
            self._meter.decoded(len(results), audio_s, busy_s, perf_counter(), live=live, final=final)
        self._stats[batch.role] = _plus(
            self._stats[batch.role],
            num_decoded=num_decoded,
            num_failed=len(results) - num_decoded,
            num_batches=1,
            audio_s=audio_s,
            busy_s=busy_s,
        )


def _audio_s(batch: Batch[_Waiting]) -> float:
    return sum(waiting.job.audio_s for waiting in batch.payloads)


def _smooth(mean: float, value: float) -> float:
    return mean + COST_SMOOTHING * (value - mean)


def _work(batch: tuple[_Waiting, ...]) -> _Answers:
    """One batch in a worker thread: an outermost shell, so that no error is lost and no worker dies."""
    began_s = perf_counter()
    batch_id = next(_batch_ids)
    jobs = [waiting.job for waiting in batch]
    try:
        results = batch[0].transcriber.transcribe(jobs)
        if len(results) != len(jobs):
            raise RuntimeError(f"{len(jobs)} jobs, {len(results)} results")
    except Exception as error:
        _log.error("transcriber failed", error=type(error).__name__, num_jobs=len(jobs))
        results = [
            DecodeFailure(job.job_id, "the model failed on this audio", retryable=True) for job in jobs
        ]
    timed = [_with_wait(r, w, began_s, batch_id) for r, w in zip(results, batch, strict=True)]
    return _Answers(timed, perf_counter() - began_s)


def _with_wait(result: DecodeResult, waiting: _Waiting, began_s: float, batch_id: int) -> DecodeResult:
    if isinstance(result, DecodeFailure):
        return result
    wait_ms = (began_s - waiting.enqueued_s) * 1000
    return replace(result, timing=replace(result.timing, queue_wait_ms=wait_ms, batch_id=batch_id))


def _answer(waiting: _Waiting, result: DecodeResult) -> None:
    if not waiting.future.done():
        waiting.future.set_result(result)


def _plus(stats: RoleStats, **more: float) -> RoleStats:
    return replace(stats, **{name: getattr(stats, name) + value for name, value in more.items()})
