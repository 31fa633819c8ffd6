"""`sotto jobs` and `sotto webhooks`: the queue of a running server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from serve_app.cli.client import Server
from serve_app.cli.console import FAILED, OK, complain, err, note, plain, table
from sotto_client import jobs
from sotto_client.errors import SottoClientError
from sotto_client.wire import JobStatus

T = TypeVar("T")


def list_jobs(server: Server, status: str | None, limit: int, *, as_json: bool) -> int:
    """The newest first."""
    found = _asked(jobs.list_jobs(url=server.url, api_key=server.api_key, status=status, limit=limit))
    if as_json:
        plain(msgspec.json.encode(found).decode())
    elif not found:
        note("no jobs")
    else:
        rows = [(job.job_id, job.status, f"{job.progress:.0%}", job.created_at) for job in found]
        table([("job", "status", "done", "created"), *rows])
    return OK


def show_job(server: Server, job_id: str, *, as_json: bool) -> int:
    """Its text once it is done, else where it is."""
    job = _asked(jobs.get_job(job_id, url=server.url, api_key=server.api_key))
    return _show(job, as_json=as_json)


def wait_for_job(server: Server, job_id: str, *, as_json: bool) -> int:
    """With a bar in a terminal; then as `show_job`."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        bar = bars.add_task("queued", total=1.0)

        def progressed(job: JobStatus) -> None:
            bars.update(bar, completed=job.progress, description=job.status)

        job = _asked(jobs.wait_for_job(job_id, url=server.url, api_key=server.api_key, progress=progressed))
    status = _show(job, as_json=as_json)
    return status if job.status == "done" else FAILED


def cancel_job(server: Server, job_id: str) -> int:
    """One that has ended is forgotten."""
    job = _asked(jobs.cancel_job(job_id, url=server.url, api_key=server.api_key))
    note(f"{job.job_id}: {'cancelled' if job.status == 'cancelled' else 'forgotten'}")
    return OK


def replay_webhooks(server: Server, job_ids: Sequence[str]) -> int:
    """Of these jobs, or all that failed."""
    replayed = _asked(jobs.replay_webhooks(job_ids, url=server.url, api_key=server.api_key))
    note(f"{replayed} webhooks will be sent again")
    return OK if replayed or not job_ids else FAILED


def _show(job: JobStatus, *, as_json: bool) -> int:
    if as_json:
        plain(msgspec.json.encode(job).decode())
    elif job.status == "done":
        plain(_text_of(job.result))
    elif job.status == "failed":
        complain(f"{job.job_id}: {job.error.message if job.error else 'failed'}")
        return FAILED
    else:
        note(f"{job.job_id}: {job.status}, {job.progress:.0%} done")
    return OK


def _text_of(result: Any) -> str:
    """Our own answer has `transcript`, subtitles are text; what other doors answered is shown whole."""
    if isinstance(result, str):
        return result
    if isinstance(result, dict) and isinstance(result.get("transcript"), str):
        return str(result["transcript"])
    return json.dumps(result, ensure_ascii=False, indent=2)


def _asked(question: Coroutine[Any, Any, T]) -> T:
    """The answer; the command fails where there is none."""
    try:
        return asyncio.run(question)
    except (SottoClientError, ValueError) as error:
        complain(str(error))
        raise typer.Exit(FAILED) from None
