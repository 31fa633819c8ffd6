"""Where jobs are kept: the protocol of the SQL and the Redis store, of which one is chosen by address.

Calls block, for milliseconds, and may be made from several threads and processes; each is one transaction.
A job is held by at most one process: `claim` gives it out under a token and for a while only, and what comes
later under a token that does not hold any more changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serve_app.core.paging import NEWEST, Place
from serve_app.jobs.records import Delivery, Job, JobState, Outcome


class JobStore(Protocol):
    """Jobs, their finished parts and results, and the outbox of webhooks."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What calls raise while the server behind the store cannot be reached."""

    def add(self, job: Job, *, max_waiting: int) -> Job | None:
        """Keep a new job; the older one where the owner used the idempotency key before. None: as many as
        `max_waiting` of the owner's wait already."""

    def get(self, job_id: str, owner: str) -> Job | None:
        """An owner's job."""

    def result(self, job_id: str) -> bytes | None:
        """What the job answered, once it is done."""

    def newest(self, owner: str, *, state: JobState | None, limit: int, before: Place = NEWEST) -> list[Job]:
        """An owner's newest jobs that are older than `before`, newest first."""

    def claim(self, token: str, *, now_s: float, lease_s: float) -> Job | None:
        """The next job to work on, held under `token` until `lease_s` from now: queued, or running under a
        lease that has ended. Owners take turns; of one owner the oldest is first. Its `attempts` count this
        one."""

    def renew(self, job_id: str, token: str, *, lease_until_s: float, progress: float) -> bool:
        """Hold it longer. False: it was cancelled, or another process has it."""

    def release(self, job_id: str, token: str, *, due_s: float, counts: bool) -> None:
        """Give it back to the queue. `counts`: as an attempt."""

    def keep_part(self, job_id: str, token: str, name: str, body: bytes) -> bool:
        """Keep a finished part of the work. False: the lease is lost."""

    def parts(self, job_id: str) -> dict[str, bytes]:
        """The parts that are finished."""

    def finish(self, job_id: str, token: str, outcome: Outcome, webhook: Delivery | None) -> bool:
        """End a job and, in the same transaction, put its webhook into the outbox. False: the lease is lost
        and nothing was changed."""

    def cancel(self, job_id: str, owner: str, *, now_s: float, expires_s: float) -> Job | None:
        """Cancel a job that has not ended; one that has is forgotten with its result. The job, as it is
        then; None: there is none."""

    def done_with_audio(self, limit: int = 100) -> Sequence[Job]:
        """Ended jobs whose audio is still there."""

    def audio_gone(self, job_id: str) -> None:
        """The audio of the job was deleted."""

    def forget_expired(self, now_s: float) -> int:
        """Drop jobs whose results have been kept long enough, and webhooks that came to nothing until then;
        how many jobs."""

    def num_open(self) -> tuple[int, int]:
        """How many jobs are queued, and how many are running."""

    # -- webhooks ----------------------------------------------------------------------------------------

    def claim_deliveries(self, *, now_s: float, lease_s: float, limit: int) -> list[Delivery]:
        """Webhooks that are due; no other process gets them for `lease_s`."""

    def settle_delivery(self, delivery: Delivery) -> None:
        """How an attempt ended: its state, `due_s` and `error`; nothing else of it is changed."""

    def deliveries(self, owner: str, job_id: str) -> list[Delivery]:
        """The webhooks of an owner's job, oldest first."""

    def replay(self, owner: str, job_ids: Sequence[str], *, now_s: float) -> int:
        """Send the webhooks of these jobs again, under the same ids; without `job_ids` those of the owner
        that failed. How many."""

    def close(self) -> None:
        """Give connections back."""
