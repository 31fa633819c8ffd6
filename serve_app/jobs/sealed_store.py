"""A store whose texts are encrypted at rest: results, finished parts and the bodies of webhooks.

What is known of a job beside its text (owner, options, addresses, errors) stays readable. With the key lost
or replaced the texts are gone: a result is none, a part is made again, a webhook fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Final, Protocol

from msgspec.structs import replace

from serve_app.core.paging import NEWEST, Place
from serve_app.jobs.records import Delivery, DeliveryState, Job, JobState, Outcome
from serve_app.jobs.store import JobStore

UNREADABLE: Final = "its text cannot be read: the storage key is another one"


class Seal(Protocol):
    """Encrypts under a name, without which nothing opens: no text can stand in for another."""

    def seal(self, data: bytes, name: str) -> bytes: ...

    def unseal(self, data: bytes, name: str) -> bytes: ...

    def write(self, source: BinaryIO, target: BinaryIO, name: str) -> int:
        """Copy the rest of `source`, encrypted."""

    def reader(self, file: BinaryIO, name: str) -> BinaryIO:
        """What was written; closing it closes `file`."""


class SealedStore:
    """A `JobStore` in front of another. `unreadable`: what the seal raises where the key is another one."""

    def __init__(self, store: JobStore, seal: Seal, unreadable: type[Exception]) -> None:
        self._store = store
        self._seal = seal
        self._unreadable = unreadable
        self.failures = store.failures

    def add(self, job: Job, *, max_waiting: int) -> Job | None:
        return self._store.add(job, max_waiting=max_waiting)

    def get(self, job_id: str, owner: str) -> Job | None:
        return self._store.get(job_id, owner)

    def result(self, job_id: str) -> bytes | None:
        sealed = self._store.result(job_id)
        return None if sealed is None else self._opened(sealed, f"result {job_id}")

    def newest(self, owner: str, *, state: JobState | None, limit: int, before: Place = NEWEST) -> list[Job]:
        return self._store.newest(owner, state=state, limit=limit, before=before)

    def claim(self, token: str, *, now_s: float, lease_s: float) -> Job | None:
        return self._store.claim(token, now_s=now_s, lease_s=lease_s)

    def renew(self, job_id: str, token: str, *, lease_until_s: float, progress: float) -> bool:
        return self._store.renew(job_id, token, lease_until_s=lease_until_s, progress=progress)

    def release(self, job_id: str, token: str, *, due_s: float, counts: bool) -> None:
        self._store.release(job_id, token, due_s=due_s, counts=counts)

    def keep_part(self, job_id: str, token: str, name: str, body: bytes) -> bool:
        sealed = self._seal.seal(body, f"part {job_id} {name}")
        return self._store.keep_part(job_id, token, name, sealed)

    def parts(self, job_id: str) -> dict[str, bytes]:
        opened = {
            name: self._opened(sealed, f"part {job_id} {name}")
            for name, sealed in self._store.parts(job_id).items()
        }
        return {name: body for name, body in opened.items() if body is not None}

    def finish(self, job_id: str, token: str, outcome: Outcome, webhook: Delivery | None) -> bool:
        if outcome.result is not None:
            outcome = replace(outcome, result=self._seal.seal(outcome.result, f"result {job_id}"))
        if webhook is not None:
            webhook = replace(webhook, body=self._seal.seal(webhook.body, webhook.delivery_id))
        return self._store.finish(job_id, token, outcome, webhook)

    def cancel(self, job_id: str, owner: str, *, now_s: float, expires_s: float) -> Job | None:
        return self._store.cancel(job_id, owner, now_s=now_s, expires_s=expires_s)

    def done_with_audio(self, limit: int = 100) -> Sequence[Job]:
        return self._store.done_with_audio(limit)

    def audio_gone(self, job_id: str) -> None:
        self._store.audio_gone(job_id)

    def forget_expired(self, now_s: float) -> int:
        return self._store.forget_expired(now_s)

    def num_open(self) -> tuple[int, int]:
        return self._store.num_open()

    def claim_deliveries(self, *, now_s: float, lease_s: float, limit: int) -> list[Delivery]:
        claimed = []
        for delivery in self._store.claim_deliveries(now_s=now_s, lease_s=lease_s, limit=limit):
            body = self._opened(delivery.body, delivery.delivery_id)
            if body is None:
                self.settle_delivery(replace(delivery, state=DeliveryState.FAILED, error=UNREADABLE))
            else:
                claimed.append(replace(delivery, body=body))
        return claimed

    def settle_delivery(self, delivery: Delivery) -> None:
        self._store.settle_delivery(delivery)

    def deliveries(self, owner: str, job_id: str) -> list[Delivery]:
        """Their bodies stay sealed."""
        return self._store.deliveries(owner, job_id)

    def replay(self, owner: str, job_ids: Sequence[str], *, now_s: float) -> int:
        return self._store.replay(owner, job_ids, now_s=now_s)

    def close(self) -> None:
        self._store.close()

    def _opened(self, sealed: bytes, name: str) -> bytes | None:
        try:
            return self._seal.unseal(sealed, name)
        except self._unreadable:
            return None
