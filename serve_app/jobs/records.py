"""What is kept of a job and of a webhook. Times are seconds of the wall clock since 1970."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_ended(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Job(Struct, frozen=True, kw_only=True):
    """One recording to transcribe; its result is kept beside it.

    `owner`: the id of the key that it came with, "" without keys. `kind` names the door whose `parameters`
    these are and whose answer the result is. The audio is the file `audio` of the jobs' storage, or is to be
    fetched from `url`. `address`: the client's, kept where addresses have limits of audio only.
    `fingerprint` tells another request with the same `idempotency_key`. `lease_token` is that of the process
    that works on it, until `lease_until_s`. A queued job is not begun before `due_s`.
    """

    job_id: str
    owner: str
    kind: str
    parameters: tuple[tuple[str, str], ...]
    created_s: float
    audio: str = ""
    url: str = ""
    webhook_url: str = ""
    webhook_method: str = "POST"
    idempotency_key: str | None = None
    fingerprint: str = ""
    state: JobState = JobState.QUEUED
    progress: float = 0.0
    attempts: int = 0
    due_s: float = 0.0
    lease_token: str = ""
    lease_until_s: float = 0.0
    started_s: float | None = None
    ended_s: float | None = None
    expires_s: float | None = None
    error_code: str = ""
    error: str = ""
    address: str = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """How a job ended: `DONE` with its `result`, the JSON of its door's answer, or `FAILED` with the error
    that the client may see. `expires_s`: when it is forgotten."""

    state: JobState
    ended_s: float
    expires_s: float
    result: bytes | None = None
    error_code: str = ""
    error: str = ""


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Delivery(Struct, frozen=True, kw_only=True):
    """One webhook. Its id stays the same however often it is sent, so that a receiver knows it again.

    Pending ones are sent once `due_s` is reached; `attempts` were begun. `error`: of the last one.
    """

    delivery_id: str
    job_id: str
    owner: str
    url: str
    body: bytes
    created_s: float
    due_s: float
    method: str = "POST"
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    error: str = ""
