"""Jobs as doors see them: hand one in, ask after it, cancel it; each caller its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from msgspec.structs import replace

from serve_app.core.errors import InvalidMessage, JobConflict, JobsUnavailable, QueueFull, UnknownJob
from serve_app.core.paging import NEWEST, Place
from serve_app.jobs.addresses import OutboundRules
from serve_app.jobs.audio_files import AudioFiles
from serve_app.jobs.counting import JobCounts, Uncounted
from serve_app.jobs.records import Delivery, Job, JobState
from serve_app.jobs.threads import StoreThreads

MAX_IDEMPOTENCY_KEY_CHARS: Final = 255
MAX_LISTED: Final = 100
WATCH_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a door was asked for: `file` from where it stands, else what is at `url`."""

    owner: str
    kind: str
    parameters: tuple[tuple[str, str], ...]
    file: BinaryIO | None = None
    url: str = ""
    webhook_url: str = ""
    webhook_method: str = "POST"
    idempotency_key: str | None = None
    address: str = ""


class JobDesk:
    """`on_added` and `on_cancelled` tell this process's own worker, which would find out a little later."""

    def __init__(
        self,
        store: StoreThreads,
        audio: AudioFiles,
        rules: OutboundRules,
        *,
        max_waiting: int = 1_000,
        result_ttl_s: float = 86_400,
        on_added: Callable[[], None] = lambda: None,
        on_cancelled: Callable[[str], None] = lambda job_id: None,
        counts: JobCounts | None = None,
        now_s: Callable[[], float] = time.time,
        watch_s: float = WATCH_S,
    ) -> None:
        self._store = store
        self._audio = audio
        self._rules = rules
        self._max_waiting = max_waiting
        self._result_ttl_s = result_ttl_s
        self._on_added = on_added
        self._on_cancelled = on_cancelled
        self._counts = counts or Uncounted()
        self._now_s = now_s
        self._watch_s = watch_s

    def check(self, new: NewJob) -> None:
        """What can be refused before any audio is kept. Raises `AddressRefused`, `InvalidMessage`."""
        for url in filter(None, (new.url, new.webhook_url)):
            self._rules.check_url(url)
        key = new.idempotency_key
        if key is not None and not (0 < len(key) <= MAX_IDEMPOTENCY_KEY_CHARS and key.isprintable()):
            raise InvalidMessage(f"Idempotency-Key: expected 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters")
        if (new.file is None) == (not new.url):
            raise InvalidMessage("a job needs a recording: a file, or the url of one")

    async def submit(self, new: NewJob) -> Job:
        """Keep a job, or find the one that the same request made before.

        Raises `AddressRefused`, `InvalidMessage`, `JobConflict`, `QueueFull`, `JobsUnavailable`.
        """
        self.check(new)
        now_s, job_id, sha256 = self._now_s(), str(uuid.uuid4()), ""
        file = new.file
        if file is not None:
            try:
                sha256 = await self._store.run(lambda: self._audio.put(job_id, file))
            except OSError as error:
                raise JobsUnavailable("the audio cannot be kept") from error
        job = Job(
            job_id=job_id,
            owner=new.owner,
            kind=new.kind,
            parameters=new.parameters,
            created_s=now_s,
            due_s=now_s,
            audio="" if file is None else job_id,
            url=new.url,
            webhook_url=new.webhook_url,
            webhook_method=new.webhook_method,
            idempotency_key=new.idempotency_key,
            address=new.address,
            fingerprint=_fingerprint(new, sha256),
        )
        kept: Job | None = None
        try:
            kept = await self._store.call(lambda store: store.add(job, max_waiting=self._max_waiting))
        finally:
            if file is not None and (kept is None or kept.job_id != job_id):
                await self._store.run(lambda: self._audio.delete(job_id))
        if kept is None:
            raise QueueFull(f"Queue full: {self._max_waiting} jobs of this caller are waiting")
        if kept.fingerprint != job.fingerprint:
            raise JobConflict("the Idempotency-Key came with another request before")
        self._on_added()
        return kept

    async def job(self, job_id: str, owner: str) -> Job:
        """Raises `UnknownJob`, `JobsUnavailable`."""
        found = await self._store.call(lambda store: store.get(job_id, owner))
        if found is None:
            raise UnknownJob("there is no such job")
        return found

    async def result(self, job: Job) -> bytes | None:
        """The JSON that the job answered, None until it is done."""
        if job.state is not JobState.DONE:
            return None
        return await self._store.call(lambda store: store.result(job.job_id))

    async def watch(self, job_id: str, owner: str, *, again_s: float = math.inf) -> AsyncIterator[Job]:
        """The job now and whenever it has changed, until it has ended; where nothing changes, again after
        `again_s`. Raises as `job`."""
        told: tuple[JobState, float] | None = None
        told_s = -math.inf
        while True:
            job = await self.job(job_id, owner)
            if (job.state, job.progress) != told or time.monotonic() - told_s >= again_s:
                told, told_s = (job.state, job.progress), time.monotonic()
                yield job
            if job.state.is_ended:
                return
            await asyncio.sleep(self._watch_s)

    async def newest(
        self, owner: str, state: JobState | None, limit: int, before: Place = NEWEST
    ) -> list[Job]:
        """Newest first, from the first one that is older than `before`. Raises `JobsUnavailable`."""
        most = min(limit, MAX_LISTED)
        return await self._store.call(
            lambda store: store.newest(owner, state=state, limit=most, before=before)
        )

    async def num_waiting(self) -> int:
        """Queued jobs of all keys. Raises `JobsUnavailable`."""
        num_queued, _ = await self._store.call(lambda store: store.num_open())
        return num_queued

    async def cancel(self, job_id: str, owner: str) -> Job:
        """Stop a job; one that has ended is forgotten, with its result. Raises `UnknownJob`."""
        now_s = self._now_s()
        job = await self._store.call(
            lambda store: store.cancel(job_id, owner, now_s=now_s, expires_s=now_s + self._result_ttl_s)
        )
        if job is None:
            raise UnknownJob("there is no such job")
        if job.state is JobState.CANCELLED and job.ended_s == now_s:
            self._counts.job_ended(job.state)
            self._on_cancelled(job_id)
        if job.audio and job.ended_s != now_s:  # it had ended before, and its audio is not swept yet
            await self._delete_audio(job)
            return await self.cancel(job_id, owner)
        return job

    async def forget_all(self, owner: str) -> int:
        """Cancel and forget all jobs of a key, with their audio, results and webhooks; how many.

        May be called again. Raises `JobsUnavailable`, `OSError`.
        """
        num_forgotten = 0
        while jobs := await self.newest(owner, None, MAX_LISTED):
            for job in jobs:
                if not job.state.is_ended:
                    job = await self.cancel(job.job_id, owner)
                if job.audio:
                    await self._delete_audio(job)
                await self.cancel(job.job_id, owner)
                num_forgotten += 1
        return num_forgotten

    async def _delete_audio(self, job: Job) -> None:
        await self._store.run(lambda: self._audio.delete(job.audio))
        await self._store.call(lambda store: store.audio_gone(job.job_id))

    async def deliveries(self, job_id: str, owner: str) -> list[Delivery]:
        """The webhooks of a job, without their bodies."""
        found = await self._store.call(lambda store: store.deliveries(owner, job_id))
        return [replace(delivery, body=b"") for delivery in found]

    async def replay(self, owner: str, job_ids: Sequence[str]) -> int:
        """Send webhooks of these jobs again, without any those that failed; how many."""
        now_s = self._now_s()
        return await self._store.call(lambda store: store.replay(owner, job_ids, now_s=now_s))


def _fingerprint(new: NewJob, sha256: str) -> str:
    what = [new.kind, new.parameters, sha256, new.url, new.webhook_url, new.webhook_method]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()
