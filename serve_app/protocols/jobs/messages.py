"""What a job is asked with, and how its state is written: ours, and the words of other servers' queues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta

from serve_app.core.errors import InvalidMessage
from serve_app.core.paging import MAX_CHARS, Place
from serve_app.jobs.records import Delivery, Job, JobState
from serve_app.protocols.choices import Parameters, convert_parameters, message_of
from serve_app.protocols.native.transcribe import UploadChoices
from sotto_client import wire
from sotto_client.wire import Written, means

NATIVE: Final = "native"
MAX_JSON_BYTES: Final = 64 * 1024
MAX_JOB_IDS: Final = 1_000
NOT_OPTIONS: Final = frozenset({"url", "clip_id", "webhook_url", "job_id"})
"""Parameters that say where the recording is, or where its text goes, and nothing of how it is decoded."""

_URL = Meta(max_length=2_048)


class JobChoices(UploadChoices, frozen=True, kw_only=True):
    """The options of an upload, and where a recording that is not sent along is."""

    url: Annotated[str, _URL, Meta(description="Fetch the recording from here.")] | None = None
    clip_id: (
        Annotated[str, Meta(max_length=128, description="Take a recording that was stored before.")] | None
    ) = None
    webhook_url: (
        Annotated[str, _URL, Meta(description="Send the job here once it has ended, by `POST`.")] | None
    ) = None


class AsyncQuery(msgspec.Struct, frozen=True, kw_only=True):
    job_id: Annotated[str, Meta(max_length=128, description="As the `POST` answered it.")]


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    status: Annotated[JobState, Meta(description="Only those that are there.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=100, description="The largest number to list.")] = 20
    before: (
        Annotated[str, Meta(max_length=MAX_CHARS, description="Go on behind a page: its `next`.")] | None
    ) = None


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which webhooks to send again."""

    job_ids: Annotated[
        list[Annotated[str, Meta(max_length=128)]],
        Meta(max_length=MAX_JOB_IDS, description="Those of these jobs; without any all that failed."),
    ] = []


class AsyncAccepted(Written, frozen=True, kw_only=True):
    """The recording is in the queue."""

    job_id: str
    status: str = "queued"


class AsyncStatus(Written, frozen=True, kw_only=True):
    """A job in the words of BullMQ."""

    status: Annotated[str, means("Where it is.", values=("waiting", "active", "completed", "failed"))]
    result: Annotated[Any, means("The answer of `POST /transcribe`, null until then.")] = None
    error: Annotated[str | msgspec.UnsetType, means("Why it failed.")] = UNSET


class WebhookEvent(Written, frozen=True, kw_only=True):
    """The body of a webhook."""

    type: Annotated[str, means("What happened.", values=("job.done", "job.failed"))]
    timestamp: Annotated[str, means("When, ISO 8601.")]
    data: wire.JobStatus


_BULL_WORDS: Final = {
    JobState.QUEUED: "waiting",
    JobState.RUNNING: "active",
    JobState.DONE: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
}


def job_choices(parameters: Parameters) -> JobChoices:
    """Raises `InvalidMessage` naming the parameter that cannot be understood."""
    return convert_parameters(parameters, JobChoices)


def options_of(parameters: Parameters) -> tuple[tuple[str, str], ...]:
    """The parameters that are kept with a job: how it is decoded, in the order of their names."""
    known = set(UploadChoices.__struct_fields__)
    return tuple(sorted((name, value) for name, value in parameters if value and name in known))


def json_parameters(body: bytes) -> list[tuple[str, str]]:
    """A JSON object of plain values as parameters. Raises `InvalidMessage`."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, str | bool | int | float | None])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidMessage(f"expected a JSON object of options: {message_of(error)}") from None
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return [(name, text) for name, text in texts.items() if fields[name] is not None]


def replay_request(body: bytes) -> ReplayRequest:
    """Raises `InvalidMessage`."""
    try:
        return msgspec.json.decode(body or b"{}", type=ReplayRequest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidMessage(message_of(error)) from None


def list_body(jobs: Sequence[Job], limit: int) -> wire.JobList:
    """A page; a full one says where the next begins."""
    place = str(Place(jobs[-1].created_s, jobs[-1].job_id)) if len(jobs) == limit else UNSET
    return wire.JobList(jobs=tuple(job_body(job) for job in jobs), next=place)


def job_body(job: Job, result: bytes | None = None, webhooks: Sequence[Delivery] = ()) -> wire.JobStatus:
    """`result` is JSON already."""
    return wire.JobStatus(
        job_id=job.job_id,
        status=job.state.value,
        progress=round(job.progress, 4),
        created_at=_iso(job.created_s) or "",
        started_at=_iso(job.started_s),
        ended_at=_iso(job.ended_s),
        expires_at=_iso(job.expires_s),
        error=wire.JobError(code=job.error_code, message=job.error) if job.error else UNSET,
        result=UNSET if result is None else msgspec.Raw(result),
        webhooks=tuple(_webhook(one) for one in webhooks) if job.webhook_url else UNSET,
    )


def _webhook(delivery: Delivery) -> wire.JobWebhook:
    return wire.JobWebhook(
        webhook_id=delivery.delivery_id,
        status=delivery.state.value,
        attempts=delivery.attempts,
        error=delivery.error or UNSET,
    )


def async_body(job: Job, result: bytes | None) -> AsyncStatus:
    error = "the job was cancelled" if job.state is JobState.CANCELLED else job.error
    return AsyncStatus(
        status=_BULL_WORDS[job.state],
        result=None if result is None else msgspec.Raw(result),
        error=error or UNSET,
    )


def webhook_body(job: Job, result: bytes | None) -> bytes:
    """Of a job that has ended."""
    # The webhooks themselves are left out: this is one of them, on its way.
    status = msgspec.structs.replace(job_body(job, result), webhooks=UNSET)
    event = WebhookEvent(type=f"job.{job.state.value}", timestamp=_iso(job.ended_s) or "", data=status)
    return msgspec.json.encode(event)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
