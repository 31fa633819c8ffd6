"""Works on jobs: one after another in each of a few tasks, in every ingress replica.

A job is held under a lease that the worker renews. Where the process dies the lease ends, and another worker
goes on from the parts that are kept. A worker that was only slow finds out with its next renewal, or when it
wants to keep something, and stops.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Final, Protocol, cast

import structlog
from msgspec.structs import replace

from serve_app.core.errors import (
    CapacityError,
    ClientError,
    InternalError,
    JobsUnavailable,
    LimitReached,
    SottoError,
)
from serve_app.jobs.audio_files import SPOOL_BYTES, AudioFiles
from serve_app.jobs.counting import JobCounts, Uncounted
from serve_app.jobs.outbound import NotReached, Outbound
from serve_app.jobs.records import Delivery, Job, JobState, Outcome
from serve_app.jobs.store import JobStore
from serve_app.jobs.threads import StoreThreads
from serve_app.jobs.webhooks import new_delivery_id

log = structlog.get_logger(__name__)

LEASE_S: Final = 20.0
"""Longer than an event loop is ever held up, and short enough to wait for after a death."""
RENEW_S: Final = 2.0
POLL_S: Final = 1.0
SWEEP_S: Final = 10.0
MAX_ATTEMPTS: Final = 5
"""Attempts that may be lost or fail for reasons of ours: it may be the job that ends its process."""
PAUSES_S: Final = (2.0, 10.0, 60.0, 300.0)
BUSY_PAUSE_S: Final = 5.0
MAX_LIMITED_PAUSE_S: Final = 600.0
"""For a job whose key has used up its audio: the key may get more, and to ask costs nothing."""
UNAVAILABLE_PAUSE_S: Final = 5.0


class LeaseLost(Exception):
    """The job was cancelled, or another worker has it: nothing that is still done here counts."""


class Parts(Protocol):
    """Finished parts of a job's work, by names that say all that they depend on."""

    def recall(self, name: str) -> bytes | None:
        """A part that was finished before, by whichever process."""

    async def keep(self, name: str, body: bytes) -> None:
        """Keep one that is finished now; where that fails it is done again if the job is taken up."""


Progress = Callable[[float], None]
Work = Callable[[Job, BinaryIO, Parts, Progress], Awaitable[bytes]]
"""From a job's audio to its result, the JSON of its door's answer; told the share that is done. Raises
`SottoError`: a client's fault ends the job, others are tried again."""


async def _admitted(job: Job, parts: Parts) -> None:
    return None


@dataclass(frozen=True, slots=True)
class JobKind:
    """What a door's jobs are: their work, and the webhook of one that has ended, with its result. `admit` is
    called before the audio is opened; like the work it raises `LimitReached` where the job has to wait for
    its owner's limits."""

    work: Work
    webhook_body: Callable[[Job, bytes | None], bytes]
    admit: Callable[[Job, Parts], Awaitable[None]] = _admitted


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    num_at_once: int = 1
    max_fetched_bytes: int = 2**31
    result_ttl_s: float = 86_400
    lease_s: float = LEASE_S
    renew_s: float = RENEW_S
    poll_s: float = POLL_S


class Worker:
    """`wake` it when a job was added, or it looks by itself once in a while."""

    def __init__(
        self,
        store: StoreThreads,
        audio: AudioFiles,
        outbound: Outbound,
        kinds: Mapping[str, JobKind],
        limits: WorkerLimits,
        *,
        counts: JobCounts | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._audio = audio
        self._outbound = outbound
        self._kinds = kinds
        self._limits = limits
        self._counts = counts or Uncounted()
        self._now_s = now_s
        self._wakes = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        self._wakes.set()

    def stop(self, job_id: str) -> None:
        """A job that was cancelled: its work here ends now, elsewhere with the next renewal."""
        if (task := self._running.get(job_id)) is not None:
            task.cancel()

    async def run(self) -> None:
        """Until it is cancelled; what it works on then goes back into the queue."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._limits.num_at_once):
                tasks.create_task(self._work_on_jobs())
            tasks.create_task(self._sweep())

    async def _work_on_jobs(self) -> None:
        while True:
            try:
                if await self.work_on_one():
                    continue
            except JobsUnavailable:  # told where it failed
                await asyncio.sleep(UNAVAILABLE_PAUSE_S)
            except Exception:  # whatever it is, the next job is another one
                log.exception("the worker lost a job")
            await _set_within(self._wakes, self._limits.poll_s)
            self._wakes.clear()

    async def work_on_one(self) -> bool:
        """Take the next job to its end; False where none waits. Raises `JobsUnavailable`."""
        token = secrets.token_hex(16)
        began_s, lease_s = self._now_s(), self._limits.lease_s
        job = await self._store.call(lambda store: store.claim(token, now_s=began_s, lease_s=lease_s))
        if job is None:
            return False
        log.info("job begins", job_id=job.job_id, attempt=job.attempts)
        if job.started_s == began_s:
            self._counts.job_begun(began_s - job.created_s)
        held = _Held(job, token, job.progress)
        if job.attempts > MAX_ATTEMPTS:
            await self._end(held, _failed(InternalError(f"the work was lost {MAX_ATTEMPTS} times")))
            return True
        try:
            await self._work_on(held)
        except LeaseLost:
            log.info("job left", job_id=job.job_id)
        return True

    async def _work_on(self, held: _Held) -> None:
        job = held.job
        parts = _StoredParts(self._store, held, await self._store.call(lambda s: s.parts(job.job_id)))
        work = asyncio.create_task(self._ended(held, parts))
        renewing = asyncio.create_task(self._renew(held))
        self._running[job.job_id] = work
        try:
            await asyncio.wait((work, renewing), return_when=asyncio.FIRST_COMPLETED)
            if not work.done() or work.cancelled():
                raise LeaseLost
            work.result()
        except asyncio.CancelledError:
            await self._give_back(held)
            raise
        finally:
            del self._running[job.job_id]
            for task in (work, renewing):
                task.cancel()
            await asyncio.gather(work, renewing, return_exceptions=True)

    async def _ended(self, held: _Held, parts: Parts) -> None:
        job = held.job
        try:
            result = await self._result(held, parts)
        except LeaseLost:
            raise
        except ClientError as error:
            await self._end(held, _failed(error))
        except Exception as error:
            if not isinstance(error, SottoError | NotReached):
                log.exception("job failed", job_id=job.job_id)
            await self._try_again(held, error)
        else:
            await self._end(held, Outcome(state=JobState.DONE, ended_s=0, expires_s=0, result=result))

    async def _result(self, held: _Held, parts: Parts) -> bytes:
        job, kind = held.job, self._kinds[held.job.kind]
        await kind.admit(job, parts)
        file = await self._file_of(job)
        try:
            return await kind.work(job, file, parts, held.progressed)
        finally:
            file.close()

    async def _file_of(self, job: Job) -> BinaryIO:
        if job.audio:
            return await self._store.run(lambda: self._audio.open(job.audio))
        file = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115
        try:
            await self._outbound.fetch(job.url, file, self._limits.max_fetched_bytes)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    async def _renew(self, held: _Held) -> None:
        """Returns when the lease is lost."""
        while not await _set_within(held.lost, self._limits.renew_s):
            until_s = self._now_s() + self._limits.lease_s
            renew = partial(
                _renew, job_id=held.job.job_id, token=held.token, until_s=until_s, progress=held.progress
            )
            try:
                if not await self._store.call(renew):
                    return
            except JobsUnavailable:
                continue  # the lease says itself when it is too late

    async def _end(self, held: _Held, outcome: Outcome) -> None:
        """End the job, with its webhook where one was asked for. Raises `LeaseLost`."""
        job, now_s = held.job, self._now_s()
        outcome = replace(outcome, ended_s=now_s, expires_s=now_s + self._limits.result_ttl_s)
        webhook, kind = None, self._kinds.get(job.kind)
        if job.webhook_url and kind is not None:
            ended = replace(
                job,
                state=outcome.state,
                progress=1.0 if outcome.state is JobState.DONE else held.progress,
                ended_s=now_s,
                expires_s=outcome.expires_s,
                error_code=outcome.error_code,
                error=outcome.error,
            )
            webhook = Delivery(
                delivery_id=new_delivery_id(),
                job_id=job.job_id,
                owner=job.owner,
                url=job.webhook_url,
                method=job.webhook_method,
                body=kind.webhook_body(ended, outcome.result),
                created_s=now_s,
                due_s=now_s,
            )
        if not await self._store.call(lambda s: s.finish(job.job_id, held.token, outcome, webhook)):
            raise LeaseLost
        self._counts.job_ended(outcome.state)
        log.info("job ended", job_id=job.job_id, state=outcome.state.value, error_code=outcome.error_code)

    async def _try_again(self, held: _Held, error: Exception) -> None:
        job = held.job
        if isinstance(error, LimitReached):
            pause_s = min(error.retry_after_s or BUSY_PAUSE_S, MAX_LIMITED_PAUSE_S)
            log.info("job waits for its key's limits", job_id=job.job_id, pause_s=pause_s)
            await self._release(held, pause_s, counts=False)
            return
        log.warning("job will be tried again", job_id=job.job_id, reason=type(error).__name__)
        if isinstance(error, CapacityError):  # it has not been tried
            await self._release(held, BUSY_PAUSE_S, counts=False)
        elif job.attempts >= MAX_ATTEMPTS:
            await self._end(held, _failed(error))
        else:
            await self._release(held, PAUSES_S[min(job.attempts, len(PAUSES_S)) - 1], counts=True)

    async def _give_back(self, held: _Held) -> None:
        """This process ends: another may go on at once."""
        with suppress(JobsUnavailable):
            await asyncio.shield(self._release(held, 0, counts=False))

    async def _release(self, held: _Held, pause_s: float, *, counts: bool) -> None:
        due_s, job_id = self._now_s() + pause_s, held.job.job_id
        await self._store.call(lambda s: s.release(job_id, held.token, due_s=due_s, counts=counts))

    async def _sweep(self) -> None:
        """Delete the audio of ended jobs, and forget those whose results have been kept long enough."""
        while True:
            try:
                await self.sweep_once()
            except JobsUnavailable:
                pass
            except Exception as error:  # a storage's own
                log.warning("jobs were not swept", reason=type(error).__name__)
            await asyncio.sleep(SWEEP_S)

    async def sweep_once(self) -> None:
        self._counts.jobs_open(*await self._store.call(lambda store: store.num_open()))
        for job in await self._store.call(lambda store: store.done_with_audio()):
            await self._delete_audio(job)
        await self._store.call(lambda store: store.forget_expired(self._now_s()))

    async def _delete_audio(self, job: Job) -> None:
        await self._store.run(lambda: self._audio.delete(job.audio))
        await self._store.call(lambda store: store.audio_gone(job.job_id))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _renew(store: JobStore, *, job_id: str, token: str, until_s: float, progress: float) -> bool:
    return store.renew(job_id, token, lease_until_s=until_s, progress=progress)


@dataclass(slots=True)
class _Held:
    """A job that this worker holds."""

    job: Job
    token: str
    progress: float = 0.0
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    def progressed(self, share: float) -> None:
        """It does not go back where a job is taken up: what was done is passed over in no time."""
        self.progress = max(self.progress, share)


class _StoredParts:
    """The `Parts` of a held job."""

    def __init__(self, store: StoreThreads, held: _Held, known: dict[str, bytes]) -> None:
        self._store = store
        self._held = held
        self._known = known

    def recall(self, name: str) -> bytes | None:
        return self._known.get(name)

    async def keep(self, name: str, body: bytes) -> None:
        job_id, token = self._held.job.job_id, self._held.token
        with suppress(JobsUnavailable):
            if not await self._store.call(lambda store: store.keep_part(job_id, token, name, body)):
                self._held.lost.set()
        self._known[name] = body


def _failed(error: Exception) -> Outcome:
    """What the client may see of it."""
    if isinstance(error, NotReached):
        error = InternalError(f"the recording's address {error}")
    if not isinstance(error, SottoError):
        error = InternalError("Transcription failed")
    return Outcome(state=JobState.FAILED, ended_s=0, expires_s=0, error_code=error.code, error=str(error))
