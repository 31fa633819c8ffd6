"""Recordings in the server's queue: `/api/jobs`, asked after, waited for, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

from sotto_client.addresses import DEFAULT_URL, authorization, http_url, is_loopback
from sotto_client.errors import RequestFailed, ServerUnreachable
from sotto_client.recordings import UploadOptions, failure_of
from sotto_client.wire import JobList, JobStatus, Replayed

__all__ = ["cancel_job", "create_job", "get_job", "list_jobs", "replay_webhooks", "wait_for_job"]

PATH = "/api/jobs"
REPLAY_PATH = "/api/webhooks/replay"
TIMEOUT_S = 60.0
POLL_S = 1.0


async def create_job(
    path: Path,
    *,
    url: str = DEFAULT_URL,
    options: UploadOptions | None = None,
    webhook_url: str | None = None,
    idempotency_key: str | None = None,
) -> JobStatus:
    """Queue a file. With an `idempotency_key` it may be called again without making a second job.

    Raises `OSError`, `ServerUnreachable`, `RequestFailed`.
    """
    options = options or UploadOptions()
    query = {**options.query(), **({"webhook_url": webhook_url} if webhook_url else {})}
    headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
    stream = await asyncio.to_thread(path.open, "rb")
    with stream:
        files = {"file": (path.name, stream, "application/octet-stream")}
        job: JobStatus = await _asked(
            "POST", http_url(url, PATH, query), options.api_key, JobStatus, headers=headers, files=files
        )
    return job


async def list_jobs(
    *, url: str = DEFAULT_URL, api_key: str | None = None, status: str | None = None, limit: int = 20
) -> tuple[JobStatus, ...]:
    """The newest jobs of this key, without their results. Raises `ServerUnreachable`, `RequestFailed`."""
    query = {"limit": str(limit), **({"status": status} if status else {})}
    found: JobList = await _asked("GET", http_url(url, PATH, query), api_key, JobList)
    return found.jobs


async def get_job(job_id: str, *, url: str = DEFAULT_URL, api_key: str | None = None) -> JobStatus:
    """A job, with its result once it is done. Raises `ServerUnreachable`, `RequestFailed`."""
    job: JobStatus = await _asked("GET", _url(url, job_id), api_key, JobStatus)
    return job


async def cancel_job(job_id: str, *, url: str = DEFAULT_URL, api_key: str | None = None) -> JobStatus:
    """Stop a job; one that has ended is forgotten. Raises `ServerUnreachable`, `RequestFailed`."""
    job: JobStatus = await _asked("DELETE", _url(url, job_id), api_key, JobStatus)
    return job


async def wait_for_job(
    job_id: str,
    *,
    url: str = DEFAULT_URL,
    api_key: str | None = None,
    progress: Callable[[JobStatus], None] = lambda job: None,
    poll_s: float = POLL_S,
) -> JobStatus:
    """The job once it has ended; `progress` hears of it until then.

    A server that is away for a while is asked again. Raises `RequestFailed` for a job that is not there.
    """
    while True:
        try:
            job = await get_job(job_id, url=url, api_key=api_key)
        except ServerUnreachable:
            await asyncio.sleep(poll_s)
            continue
        except RequestFailed as failed:
            if not is_passing(failed):
                raise
            await asyncio.sleep(failed.retry_after_s or poll_s)
            continue
        progress(job)
        if job.is_ended:
            return job
        await asyncio.sleep(poll_s)


async def replay_webhooks(
    job_ids: Sequence[str] = (), *, url: str = DEFAULT_URL, api_key: str | None = None
) -> int:
    """Have webhooks of these jobs sent again, without any all that failed; how many."""
    body = {"job_ids": list(job_ids)}
    replayed: Replayed = await _asked("POST", http_url(url, REPLAY_PATH), api_key, Replayed, body)
    return replayed.replayed


def is_passing(failed: RequestFailed) -> bool:
    """Whether a server that restarts answers so: 5xx, or Ray's proxy, which does not know its routes yet."""
    return failed.status >= 500 or (failed.status == 404 and "/-/routes" in failed.detail)


def _url(base: str, job_id: str) -> str:
    if not job_id or not all(char.isalnum() or char == "-" for char in job_id):
        raise ValueError(f"{job_id!r} is no id of a job")
    return http_url(base, f"{PATH}/{job_id}")


async def _asked(
    method: str,
    url: str,
    api_key: str | None,
    record: Any,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    files: Any = None,
) -> Any:
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=not is_loopback(url)) as client:
            sent = {**authorization(api_key), **(headers or {})}
            response = await client.request(method, url, headers=sent, json=body, files=files)
    except httpx.TransportError as error:
        raise ServerUnreachable(url, repr(error)) from error
    if not response.is_success:
        raise failure_of(response.status_code, response.content, response.headers)
    try:
        return msgspec.json.decode(response.content, type=record)
    except msgspec.MsgspecError as error:
        raise RequestFailed(response.status_code, f"an answer of an unknown shape ({error})") from error
