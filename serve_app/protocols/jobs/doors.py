"""The doors of the queue: jobs, their webhooks, and `transcribe-async` as web applications know it."""

from __future__ import annotations

from typing import Any, Final

from serve_app.protocols.doors import AUDIO_TYPES, Answer, Form, Operation, Query
from serve_app.protocols.jobs import messages
from serve_app.protocols.native import ndjson
from sotto_client import wire

EVENT_STREAM_TYPE: Final = "text/event-stream"
_JOB: Final = Answer(record=wire.JobStatus)


def _operation(method: str, path: str, name: str, summary: str, *answers: Answer, **more: Any) -> Operation:
    more.setdefault("errors", (404, 409, 503))
    return Operation(method, path, name, "jobs", summary, answers, **more)


DOORS: Final = (
    _operation(
        "post",
        "/api/jobs",
        "createJob",
        "Queue a recording",
        Answer(202, "It is in the queue.", wire.JobStatus),
        description="The recording comes as a form or a body, or is fetched from `url`; options come as "
        "query parameters, form fields or a JSON object. A request that repeats the header `Idempotency-Key` "
        "is answered with the job of the first. Webhooks are signed as Standard Webhooks says.",
        query=Query(messages.JobChoices),
        form=Form(messages.JobChoices),
        audio=AUDIO_TYPES,
        json=messages.JobChoices,
        errors=(400, 404, 409, 413, 415, 503),
    ),
    _operation(
        "get",
        "/api/jobs",
        "listJobs",
        "The newest jobs of this key",
        Answer(record=wire.JobList),
        query=Query(messages.ListQuery),
        errors=(400, 409, 503),
    ),
    _operation(
        "get",
        "/api/jobs/{job_id}",
        "getJob",
        "A job and its result",
        Answer(
            record=wire.JobStatus,
            streams={ndjson.MEDIA_TYPE: wire.JobStatus, EVENT_STREAM_TYPE: wire.JobStatus},
        ),
        description=f"`Accept: {ndjson.MEDIA_TYPE}` or `{EVENT_STREAM_TYPE}`: a line or event for every "
        "change, until it has ended.",
    ),
    _operation(
        "delete",
        "/api/jobs/{job_id}",
        "cancelJob",
        "Cancel a job",
        _JOB,
        description="One that has ended is forgotten at once, with its result.",
    ),
    _operation(
        "post",
        "/api/webhooks/replay",
        "replayWebhooks",
        "Send webhooks again",
        Answer(record=wire.Replayed),
        json=messages.ReplayRequest,
        errors=(400, 409, 503),
    ),
    _operation(
        "post",
        "/api/transcribe-async",
        "transcribeAsync",
        "Queue a recording, as BullMQ's users know it",
        Answer(202, "It is in the queue.", messages.AsyncAccepted),
        query=Query(messages.JobChoices),
        form=Form(messages.JobChoices),
        audio=AUDIO_TYPES,
        json=messages.JobChoices,
        errors=(400, 404, 409, 413, 415, 503),
    ),
    _operation(
        "get",
        "/api/transcribe-async",
        "transcribeAsyncStatus",
        "Where it is",
        Answer(record=messages.AsyncStatus),
        query=Query(messages.AsyncQuery),
        errors=(400, 404, 409, 503),
    ),
)
