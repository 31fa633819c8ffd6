"""Jobs in Redis, which must keep what it has (`appendonly yes`) and evict nothing (`noeviction`).

A change is one transaction under WATCH: read, then MULTI and EXEC, again from the start where another process
changed what was read. Keys, all under one hash tag, so that a cluster keeps them on one node:

    {sotto}:job:ID         the record
    {sotto}:result:ID      its result
    {sotto}:parts:ID       its finished parts by name
    {sotto}:hooks:ID       its webhooks
    {sotto}:owned:OWNER    an owner's jobs by age
    {sotto}:waiting:OWNER  those that are queued, by when they are due
    {sotto}:key:OWNER:KEY  the job of an idempotency key
    {sotto}:turns          owners by when they were served last, as {sotto}:turn counts it
    {sotto}:running        jobs by the end of their lease
    {sotto}:expiring       ended jobs by when they are forgotten; {sotto}:audio those whose audio is there
    {sotto}:delivery:ID    a webhook
    {sotto}:due            webhooks by when they are due; {sotto}:undelivered:OWNER those that failed
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace
from redis import Redis
from redis.exceptions import RedisError, WatchError

from serve_app.core.paging import NEWEST, Place
from serve_app.jobs.records import Delivery, DeliveryState, Job, JobState, Outcome

T = TypeVar("T")

_P: Final = "{sotto}:"
_TURN, _TURNS, _RUNNING = f"{_P}turn", f"{_P}turns", f"{_P}running"
_EXPIRING, _AUDIO, _DUE = f"{_P}expiring", f"{_P}audio", f"{_P}due"
TIMEOUT_S: Final = 10
_MAX_SEEN: Final = 100


class RedisStore:
    """A `JobStore` in one Redis database."""

    failures: tuple[type[Exception], ...] = (RedisError,)

    def __init__(self, url: str) -> None:
        """Raises `RedisError` where it does not answer, `ValueError` for another address."""
        self._redis: Any = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._redis.ping()

    def add(self, job: Job, *, max_waiting: int) -> Job | None:
        key = f"{_P}key:{job.owner}:{job.idempotency_key}"
        waiting = f"{_P}waiting:{job.owner}"

        def change(pipe: Any) -> Job | None:
            if job.idempotency_key is not None and (older := pipe.get(key)) is not None:
                return self._read(pipe, older.decode())
            if pipe.zcard(waiting) >= max_waiting:
                return None
            pipe.multi()
            self._write(pipe, job)
            pipe.zadd(waiting, {job.job_id: job.due_s})
            pipe.zadd(f"{_P}owned:{job.owner}", {job.job_id: job.created_s})
            pipe.zadd(_TURNS, {job.owner: 0}, nx=True)
            if job.idempotency_key is not None:
                pipe.set(key, job.job_id)
            return job

        return self._transaction(change, key, waiting)

    def get(self, job_id: str, owner: str) -> Job | None:
        job = self._read(self._redis, job_id)
        return job if job is not None and job.owner == owner else None

    def result(self, job_id: str) -> bytes | None:
        found: bytes | None = self._redis.get(f"{_P}result:{job_id}")
        return found

    def newest(self, owner: str, *, state: JobState | None, limit: int, before: Place = NEWEST) -> list[Job]:
        jobs: list[Job] = []
        for job_id in self._redis.zrevrangebyscore(f"{_P}owned:{owner}", before.created_s, "-inf"):
            job = self._read(self._redis, job_id.decode())
            if job is None or Place(job.created_s, job.job_id) >= before:
                continue
            if state in (None, job.state):
                jobs.append(job)
                if len(jobs) == limit:
                    break
        return jobs

    def claim(self, token: str, *, now_s: float, lease_s: float) -> Job | None:
        def change(pipe: Any) -> Job | None:
            found = self._next(pipe, now_s)
            if found is None:
                return None
            turn = int(pipe.get(_TURN) or 0) + 1
            held = replace(
                found,
                state=JobState.RUNNING,
                lease_token=token,
                lease_until_s=now_s + lease_s,
                attempts=found.attempts + 1,
                started_s=now_s if found.started_s is None else found.started_s,
            )
            pipe.multi()
            self._write(pipe, held)
            pipe.zrem(f"{_P}waiting:{held.owner}", held.job_id)
            pipe.zadd(_RUNNING, {held.job_id: held.lease_until_s})
            pipe.zadd(_TURNS, {held.owner: turn})
            pipe.set(_TURN, turn)
            return held

        return self._transaction(change, _TURN, _TURNS, _RUNNING)

    def _next(self, pipe: Any, now_s: float) -> Job | None:
        """The oldest job that may be claimed of the owner whose turn it is."""
        lost: dict[str, list[Job]] = {}
        for job_id in pipe.zrangebyscore(_RUNNING, "-inf", f"({now_s!r}"):
            if (job := self._read(pipe, job_id.decode())) is not None:
                lost.setdefault(job.owner, []).append(job)
        for owner in pipe.zrange(_TURNS, 0, -1):
            waiting = f"{_P}waiting:{owner.decode()}"
            pipe.watch(waiting)
            ids = pipe.zrangebyscore(waiting, "-inf", now_s, start=0, num=_MAX_SEEN)
            jobs = [self._read(pipe, job_id.decode()) for job_id in ids]
            known = [job for job in jobs if job is not None] + lost.get(owner.decode(), [])
            if known:
                found = min(known, key=lambda job: (job.created_s, job.job_id))
                pipe.watch(f"{_P}job:{found.job_id}")
                return self._read(pipe, found.job_id)
        return None

    def renew(self, job_id: str, token: str, *, lease_until_s: float, progress: float) -> bool:
        def renewed(pipe: Any, job: Job) -> None:
            pipe.zadd(_RUNNING, {job_id: lease_until_s})
            self._write(pipe, replace(job, lease_until_s=lease_until_s, progress=progress))

        return self._while_held(job_id, token, renewed)

    def release(self, job_id: str, token: str, *, due_s: float, counts: bool) -> None:
        def released(pipe: Any, job: Job) -> None:
            attempts = job.attempts - (0 if counts else 1)
            queued = replace(job, state=JobState.QUEUED, lease_token="", due_s=due_s, attempts=attempts)
            pipe.zrem(_RUNNING, job_id)
            pipe.zadd(f"{_P}waiting:{job.owner}", {job_id: due_s})
            self._write(pipe, queued)

        self._while_held(job_id, token, released)

    def keep_part(self, job_id: str, token: str, name: str, body: bytes) -> bool:
        return self._while_held(job_id, token, lambda pipe, _: pipe.hset(f"{_P}parts:{job_id}", name, body))

    def parts(self, job_id: str) -> dict[str, bytes]:
        found = self._redis.hgetall(f"{_P}parts:{job_id}")
        return {name.decode(): body for name, body in found.items()}

    def finish(self, job_id: str, token: str, outcome: Outcome, webhook: Delivery | None) -> bool:
        def finished(pipe: Any, job: Job) -> None:
            self._end(pipe, job, outcome)
            if webhook is not None:
                self._write_delivery(pipe, webhook)
                pipe.rpush(f"{_P}hooks:{job_id}", webhook.delivery_id)
                pipe.zadd(_DUE, {webhook.delivery_id: webhook.due_s})

        return self._while_held(job_id, token, finished)

    def cancel(self, job_id: str, owner: str, *, now_s: float, expires_s: float) -> Job | None:
        key = f"{_P}job:{job_id}"

        def change(pipe: Any) -> Job | None:
            job = self._read(pipe, job_id)
            if job is None or job.owner != owner:
                return None
            if not job.state.is_ended:
                outcome = Outcome(state=JobState.CANCELLED, ended_s=now_s, expires_s=expires_s)
                pipe.multi()
                return self._end(pipe, job, outcome)
            if not job.audio:
                hooks = self._hooks(pipe, job_id)
                pipe.multi()
                self._forget(pipe, job, hooks)
            return job

        return self._transaction(change, key)

    def done_with_audio(self, limit: int = 100) -> list[Job]:
        ids = self._redis.srandmember(_AUDIO, limit)
        jobs = [self._read(self._redis, job_id.decode()) for job_id in ids]
        return [job for job in jobs if job is not None]

    def audio_gone(self, job_id: str) -> None:
        def change(pipe: Any) -> None:
            job = self._read(pipe, job_id)
            pipe.multi()
            pipe.srem(_AUDIO, job_id)
            if job is not None:
                self._write(pipe, replace(job, audio=""))

        self._transaction(change, f"{_P}job:{job_id}")

    def forget_expired(self, now_s: float) -> int:
        num_forgotten = 0
        for job_id in self._redis.zrangebyscore(_EXPIRING, "-inf", now_s):
            num_forgotten += self._forget_one(job_id.decode())
        return num_forgotten

    def _forget_one(self, job_id: str) -> bool:
        def change(pipe: Any) -> bool:
            job = self._read(pipe, job_id)
            if job is not None and job.audio:
                return False
            hooks = self._hooks(pipe, job_id)
            pipe.multi()
            if job is None:
                pipe.zrem(_EXPIRING, job_id)
            else:
                self._forget(pipe, job, hooks)
            return job is not None

        return self._transaction(change, f"{_P}job:{job_id}")

    def num_open(self) -> tuple[int, int]:
        owners = self._redis.zrange(_TURNS, 0, -1)
        num_queued = sum(self._redis.zcard(f"{_P}waiting:{owner.decode()}") for owner in owners)
        return num_queued, self._redis.zcard(_RUNNING)

    # -- webhooks ----------------------------------------------------------------------------------------

    def claim_deliveries(self, *, now_s: float, lease_s: float, limit: int) -> list[Delivery]:
        claimed = []
        for delivery_id in self._redis.zrangebyscore(_DUE, "-inf", now_s, start=0, num=limit):
            delivery = self._claim_delivery(delivery_id.decode(), now_s, lease_s)
            if delivery is not None:
                claimed.append(delivery)
        return claimed

    def _claim_delivery(self, delivery_id: str, now_s: float, lease_s: float) -> Delivery | None:
        def change(pipe: Any) -> Delivery | None:
            delivery = self._read_delivery(pipe, delivery_id)
            if delivery is None or delivery.due_s > now_s or delivery.state is not DeliveryState.PENDING:
                return None
            taken = replace(delivery, due_s=now_s + lease_s, attempts=delivery.attempts + 1)
            pipe.multi()
            self._write_delivery(pipe, taken)
            pipe.zadd(_DUE, {delivery_id: taken.due_s})
            return taken

        return self._transaction(change, f"{_P}delivery:{delivery_id}")

    def settle_delivery(self, delivery: Delivery) -> None:
        def change(pipe: Any) -> None:
            known = self._read_delivery(pipe, delivery.delivery_id)
            pipe.multi()
            if known is None:  # its job was forgotten meanwhile
                return
            settled = replace(known, state=delivery.state, due_s=delivery.due_s, error=delivery.error)
            self._write_delivery(pipe, settled)
            undelivered = f"{_P}undelivered:{delivery.owner}"
            if delivery.state is DeliveryState.PENDING:
                pipe.zadd(_DUE, {delivery.delivery_id: delivery.due_s})
                return
            pipe.zrem(_DUE, delivery.delivery_id)
            if delivery.state is DeliveryState.FAILED:
                pipe.sadd(undelivered, delivery.delivery_id)

        self._transaction(change, f"{_P}delivery:{delivery.delivery_id}")

    def deliveries(self, owner: str, job_id: str) -> list[Delivery]:
        found = [self._read_delivery(self._redis, name) for name in self._hooks(self._redis, job_id)]
        return [delivery for delivery in found if delivery is not None and delivery.owner == owner]

    def replay(self, owner: str, job_ids: Sequence[str], *, now_s: float) -> int:
        if job_ids:
            wanted = [one.delivery_id for job_id in job_ids for one in self.deliveries(owner, job_id)]
        else:
            wanted = [one.decode() for one in self._redis.smembers(f"{_P}undelivered:{owner}")]
        return sum(self._replay_one(delivery_id, owner, now_s) for delivery_id in wanted)

    def _replay_one(self, delivery_id: str, owner: str, now_s: float) -> bool:
        def change(pipe: Any) -> bool:
            delivery = self._read_delivery(pipe, delivery_id)
            pipe.multi()
            pipe.srem(f"{_P}undelivered:{owner}", delivery_id)
            if delivery is None:
                return False
            self._write_delivery(
                pipe, replace(delivery, state=DeliveryState.PENDING, due_s=now_s, attempts=0)
            )
            pipe.zadd(_DUE, {delivery_id: now_s})
            return True

        return self._transaction(change, f"{_P}delivery:{delivery_id}")

    def close(self) -> None:
        self._redis.close()

    # -- parts of transactions ---------------------------------------------------------------------------

    def _transaction(self, change: Callable[[Any], T], *watched: str) -> T:
        """What `change` answers: it reads from the pipe, calls its `multi` and then only writes."""
        pause_s = 0.001
        with self._redis.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(*watched)
                    answer = change(pipe)
                    pipe.execute()
                    return answer
                except WatchError:
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, 0.05)

    def _while_held(self, job_id: str, token: str, write: Callable[[Any, Job], Any]) -> bool:
        def change(pipe: Any) -> bool:
            job = self._read(pipe, job_id)
            pipe.multi()
            if job is None or job.state is not JobState.RUNNING or job.lease_token != token:
                return False
            write(pipe, job)
            return True

        return self._transaction(change, f"{_P}job:{job_id}")

    def _end(self, pipe: Any, job: Job, outcome: Outcome) -> Job:
        ended = replace(
            job,
            state=outcome.state,
            progress=1.0 if outcome.state is JobState.DONE else job.progress,
            ended_s=outcome.ended_s,
            expires_s=outcome.expires_s,
            error_code=outcome.error_code,
            error=outcome.error,
            lease_token="",
        )
        self._write(pipe, ended)
        pipe.zrem(f"{_P}waiting:{job.owner}", job.job_id)
        pipe.zrem(_RUNNING, job.job_id)
        pipe.zadd(_EXPIRING, {job.job_id: outcome.expires_s})
        pipe.delete(f"{_P}parts:{job.job_id}")
        if outcome.result is not None:
            pipe.set(f"{_P}result:{job.job_id}", outcome.result)
        if job.audio:
            pipe.sadd(_AUDIO, job.job_id)
        return ended

    def _forget(self, pipe: Any, job: Job, hooks: Sequence[str]) -> None:
        names = ("job", "result", "parts", "hooks")
        pipe.delete(*(f"{_P}{name}:{job.job_id}" for name in names))
        for hook in hooks:
            pipe.delete(f"{_P}delivery:{hook}")
            pipe.zrem(_DUE, hook)
            pipe.srem(f"{_P}undelivered:{job.owner}", hook)
        pipe.zrem(f"{_P}owned:{job.owner}", job.job_id)
        pipe.zrem(_EXPIRING, job.job_id)
        if job.idempotency_key is not None:
            pipe.delete(f"{_P}key:{job.owner}:{job.idempotency_key}")

    def _hooks(self, source: Any, job_id: str) -> list[str]:
        return [name.decode() for name in source.lrange(f"{_P}hooks:{job_id}", 0, -1)]

    def _read(self, source: Any, job_id: str) -> Job | None:
        body = source.get(f"{_P}job:{job_id}")
        return None if body is None else msgspec.msgpack.decode(body, type=Job)

    def _write(self, pipe: Any, job: Job) -> None:
        pipe.set(f"{_P}job:{job.job_id}", msgspec.msgpack.encode(job))

    def _read_delivery(self, source: Any, delivery_id: str) -> Delivery | None:
        body = source.get(f"{_P}delivery:{delivery_id}")
        return None if body is None else msgspec.msgpack.decode(body, type=Delivery)

    def _write_delivery(self, pipe: Any, delivery: Delivery) -> None:
        pipe.set(f"{_P}delivery:{delivery.delivery_id}", msgspec.msgpack.encode(delivery))
