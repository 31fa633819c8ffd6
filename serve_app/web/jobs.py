"""The doors of the queue. What a caller does not own is unknown to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serve_app.core.errors import InvalidMessage, NothingKept, SottoError
from serve_app.core.paging import place_of
from serve_app.jobs.desk import JobDesk, NewJob
from serve_app.jobs.records import Job
from serve_app.protocols.choices import Parameters, convert_parameters
from serve_app.protocols.jobs import messages
from serve_app.protocols.jobs.doors import EVENT_STREAM_TYPE
from serve_app.protocols.native import ndjson
from serve_app.web.callers import caller_of
from serve_app.web.door import Door, Endpoints
from serve_app.web.duplex import Duplex
from serve_app.web.records import RecordResponse, small_body
from serve_app.web.uploads import receive_upload, until_gone
from sotto_client import wire

IDEMPOTENCY_HEADER = "idempotency-key"
LOCATION = "/api/jobs/"


def job_endpoints(door: Door) -> Endpoints:
    async def create(request: Request) -> Response:
        return accepted(await queue_recording(request, door))

    async def create_async(request: Request) -> Response:
        job = await queue_recording(request, door)
        return RecordResponse(messages.AsyncAccepted(job_id=job.job_id), status_code=202)

    async def get_async(request: Request) -> Response:
        query = convert_parameters(request.query_params.multi_items(), messages.AsyncQuery)
        desk = desk_of(door)
        job = await desk.job(query.job_id, _owner(request))
        return RecordResponse(messages.async_body(job, await desk.result(job)))

    async def get(request: Request) -> Response:
        desk, job_id, owner = desk_of(door), request.path_params["job_id"], _owner(request)
        job = await desk.job(job_id, owner)
        accepted_types = request.headers.get("accept", "")
        for media_type, line in _STREAMS.items():
            if media_type in accepted_types:
                lines = _changes(request, door, job_id, owner, line)
                stall_s = door.settings.idle_timeout_s
                return Duplex(lines, media_type=media_type, max_stall_s=stall_s, on_closed=lambda: None)
        return RecordResponse(await _full_body(desk, job))

    async def newest(request: Request) -> Response:
        query = convert_parameters(request.query_params.multi_items(), messages.ListQuery)
        before = place_of(query.before)
        jobs = await desk_of(door).newest(_owner(request), query.status, query.limit, before)
        return RecordResponse(messages.list_body(jobs, query.limit))

    async def cancel(request: Request) -> Response:
        job = await desk_of(door).cancel(request.path_params["job_id"], _owner(request))
        return RecordResponse(messages.job_body(job))

    async def replay(request: Request) -> Response:
        asked = messages.replay_request(await small_body(request, messages.MAX_JSON_BYTES))
        num_replayed = await desk_of(door).replay(_owner(request), asked.job_ids)
        return RecordResponse(wire.Replayed(replayed=num_replayed))

    return {
        "createJob": create,
        "listJobs": newest,
        "getJob": get,
        "cancelJob": cancel,
        "replayWebhooks": replay,
        "transcribeAsync": create_async,
        "transcribeAsyncStatus": get_async,
    }


def desk_of(door: Door) -> JobDesk:
    """Raises `NothingKept` where there is no queue."""
    if door.jobs is None:
        raise NothingKept("this server keeps no recordings: send them to be transcribed at once")
    return door.jobs


def accepted(job: Job) -> Response:
    """202, with where to ask."""
    headers = {"location": LOCATION + job.job_id}
    return RecordResponse(messages.job_body(job), status_code=202, headers=headers)


async def queue_recording(request: Request, door: Door) -> Job:
    """Queue what a request sends, or names by an address, with our own options.

    Raises what an upload does, `AddressRefused`, `JobConflict`, `QueueFull`, `JobsUnavailable`.
    """
    desk_of(door)
    query = request.query_params.multi_items()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    with door.transcription():
        _checked(query, door)  # a bad query costs no upload
        if media_type == "application/json":
            query += messages.json_parameters(await small_body(request, messages.MAX_JSON_BYTES))
            return await queue_this(request, door, query, None)
        if not _has_body(request):
            return await queue_this(request, door, query, None)
        upload = await receive_upload(request, door.max_body_bytes)
        try:
            return await queue_this(request, door, [*query, *upload.fields], upload.file)
        finally:
            upload.close()


async def queue_this(
    request: Request, door: Door, parameters: list[tuple[str, str]], file: BinaryIO | None
) -> Job:
    """Queue a recording that is here, or that the parameters name, for whoever asks. Raises as
    `queue_recording`."""
    desk = desk_of(door)
    choices = _checked(parameters, door)
    given = [name for name in ("url", "clip_id") if getattr(choices, name)]
    if len(given) + (file is not None) != 1:
        raise InvalidMessage("a job needs one recording: a file, a url or a clip_id")
    async with _file_of(request, door, choices, file) as recording:
        return await desk.submit(
            NewJob(
                owner=_owner(request),
                address=door.charged_address(request.scope),
                kind=messages.NATIVE,
                parameters=messages.options_of(parameters),
                file=recording,
                url=choices.url or "",
                webhook_url=choices.webhook_url or "",
                idempotency_key=request.headers.get(IDEMPOTENCY_HEADER),
            )
        )


@asynccontextmanager
async def _file_of(
    request: Request, door: Door, choices: messages.JobChoices, file: BinaryIO | None
) -> AsyncIterator[BinaryIO | None]:
    if not choices.clip_id:
        yield file
        return
    if door.clips is None:
        raise NothingKept("clip_id: this server keeps no recordings")
    async with door.clips.opened(choices.clip_id, _owner(request)) as clip:
        yield clip


def _checked(parameters: Parameters, door: Door) -> messages.JobChoices:
    """Raises the `SottoError` of options that make no sense, or that nothing here can serve."""
    choices = messages.job_choices(parameters)
    options = choices.recording_options(door.recording_defaults(), door.settings.diarization_backend)
    door.service.require_served(options)
    return choices


async def _full_body(desk: JobDesk, job: Job) -> wire.JobStatus:
    webhooks = await desk.deliveries(job.job_id, job.owner) if job.webhook_url else []
    return messages.job_body(job, await desk.result(job), webhooks)


def _line(body: bytes) -> bytes:
    return body + b"\n"


def _event(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


_STREAMS: dict[str, Callable[[bytes], bytes]] = {ndjson.MEDIA_TYPE: _line, EVENT_STREAM_TYPE: _event}


async def _changes(
    request: Request, door: Door, job_id: str, owner: str, written: Callable[[bytes], bytes]
) -> AsyncGenerator[bytes, None]:
    """Ends with the job, or when the client has gone; a job that does not change is told again in between."""
    desk = desk_of(door)
    leaving = asyncio.create_task(until_gone(request))
    try:
        async for job in desk.watch(job_id, owner, again_s=door.settings.heartbeat_s):
            if leaving.done():
                return
            yield written(msgspec.json.encode(await _full_body(desk, job)))
    except SottoError:
        return  # it was forgotten meanwhile, or the store is gone: the client asks again
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


def _owner(request: Request) -> str:
    return caller_of(request.scope).key_id


def _has_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"
