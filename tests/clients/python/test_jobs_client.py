"""Jobs from a program: queued once, whatever becomes of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fakes.app_server import running_app
from serve_app.launch.cluster import free_ports
from sotto_client.errors import RequestFailed, ServerUnreachable
from sotto_client.jobs import create_job, get_job
from sotto_client.recordings import UploadOptions

JOB = {"job_id": "a-1", "status": "queued", "progress": 0.0, "created_at": "2026-11-30T10:00:00+00:00"}


class Server:
    def __init__(self) -> None:
        self.status = 202
        self.asked: dict[str, Any] = {}

    async def create(self, request: Request) -> Response:
        async with request.form() as form:
            self.asked = {
                "query": dict(request.query_params),
                "key": request.headers.get("idempotency-key"),
                "authorization": request.headers.get("authorization"),
                "audio": await form["file"].read(),  # type: ignore[union-attr]
            }
        return JSONResponse(JOB if self.status == 202 else {"detail": "full"}, status_code=self.status)


@pytest.fixture
def running() -> Iterator[tuple[Server, str]]:
    server = Server()
    with running_app(Starlette(routes=[Route("/api/jobs", server.create, methods=["POST"])])) as port:
        yield server, f"http://127.0.0.1:{port}"


async def test_a_file_is_queued(running: tuple[Server, str], tmp_path: Path) -> None:
    server, url = running
    (tmp_path / "a.wav").write_bytes(b"audio")
    options = UploadOptions(language="pt", diarize=True, api_key="k3y")
    hook = "https://example.com/hook?a=1&b=2"
    job = await create_job(
        tmp_path / "a.wav", url=url, options=options, webhook_url=hook, idempotency_key="once"
    )
    assert (job.job_id, job.status, job.is_ended) == ("a-1", "queued", False)
    assert server.asked == {
        "query": {"language": "pt", "diarize": "true", "webhook_url": hook},
        "key": "once",
        "authorization": "Bearer k3y",
        "audio": b"audio",
    }


async def test_refusals_and_silence(running: tuple[Server, str], tmp_path: Path) -> None:
    server, url = running
    server.status = 503
    (tmp_path / "a.wav").write_bytes(b"audio")
    with pytest.raises(RequestFailed, match="503: full"):
        await create_job(tmp_path / "a.wav", url=url)
    with pytest.raises(ServerUnreachable):
        await get_job("a-1", url=f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(ValueError, match="no id"):
        await get_job("../a", url=url)
