"""`sotto jobs` and `sotto webhooks`: what they ask for, what they show, how they end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from fakes.app_server import running_app
from serve_app.cli.app import app

JOB = {
    "job_id": "a-1",
    "status": "done",
    "progress": 1.0,
    "created_at": "2026-11-30T10:00:00+00:00",
    "started_at": "2026-11-30T10:00:01+00:00",
    "ended_at": "2026-11-30T10:00:09+00:00",
    "expires_at": None,
    "a field of a newer server": 1,
}
BEGUN = {**JOB, "status": "running", "progress": 0.25, "ended_at": None}
FAILED = {**JOB, "status": "failed", "error": {"code": "INVALID_MESSAGE", "message": "no audio"}}


class Server:
    """Answers one request after another as it was told, the last answer again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, Any]] = []

    async def answer(self, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        body = await request.body()
        self.asked.append((request.method, request.url.path + query, json.loads(body) if body else None))
        status, content = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return JSONResponse(content, status_code=status)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Server, str]]:
    server = Server()
    routes = [Route("/{path:path}", server.answer, methods=["GET", "POST", "DELETE"])]
    with running_app(Starlette(routes=routes)) as port:
        yield server, f"http://127.0.0.1:{port}"


@pytest.fixture
def server(running: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> Server:
    server, url = running
    monkeypatch.setenv("STT_SERVICE_URL", url)
    server.answers, server.asked = [], []
    return server


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_jobs_are_listed(server: Server) -> None:
    server.answers = [(200, {"jobs": [JOB, BEGUN]})]
    status, out, _ = run("jobs", "list", "--status", "done", "--limit", "5")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["job", "status", "done", "created"],
        ["a-1", "done", "100%", JOB["created_at"]],
        ["a-1", "running", "25%", JOB["created_at"]],
    ]
    assert server.asked == [("GET", "/api/jobs?limit=5&status=done", None)]
    assert [job["status"] for job in json.loads(run("jobs", "list", "--json")[1])] == ["done", "running"]
    server.answers = [(200, {"jobs": []})]
    assert run("jobs", "list") == (0, "", "no jobs\n")


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ({"transcript": "Olá, mundo.", "segments": []}, "Olá, mundo.\n"),
        ("WEBVTT\n", "WEBVTT\n"),
        ({"results": {}}, '{\n  "results": {}\n}\n'),
    ],
)
def test_a_job_is_shown(server: Server, result: Any, shown: str) -> None:
    server.answers = [(200, {**JOB, "result": result})]
    assert run("jobs", "show", "a-1") == (0, shown, "")
    assert json.loads(run("jobs", "show", "a-1", "--json")[1])["result"] == result
    assert server.asked[0] == ("GET", "/api/jobs/a-1", None)


def test_a_job_that_goes_on_or_failed(server: Server) -> None:
    server.answers = [(200, BEGUN)]
    assert run("jobs", "show", "a-1") == (0, "", "a-1: running, 25% done\n")
    server.answers = [(200, FAILED)]
    assert run("jobs", "show", "a-1") == (1, "", "error: a-1: no audio\n")


@pytest.mark.slow
def test_a_job_is_waited_for_also_while_the_server_is_away(server: Server) -> None:
    restarts = (404, "Path '/api/jobs/a-1' not found. Ping http://.../-/routes for available routes.")
    server.answers = [
        (200, BEGUN),
        (503, {"detail": "x"}),
        restarts,
        (200, {**JOB, "result": {"transcript": "hello"}}),
    ]
    assert run("jobs", "wait", "a-1") == (0, "hello\n", "")
    server.answers = [(200, FAILED)]
    assert run("jobs", "wait", "a-1")[0] == 1
    server.answers = [(200, {**JOB, "status": "cancelled"})]
    assert run("jobs", "wait", "a-1")[0] == 1
    server.answers = [(404, {"detail": "there is no such job"})]
    assert run("jobs", "wait", "a-1") == (1, "", "error: The server answered 404: there is no such job\n")


def test_a_job_is_cancelled_or_forgotten(server: Server) -> None:
    server.answers = [(200, {**JOB, "status": "cancelled"}), (200, JOB)]
    assert run("jobs", "cancel", "a-1") == (0, "", "a-1: cancelled\n")
    assert run("jobs", "cancel", "a-1") == (0, "", "a-1: forgotten\n")
    assert server.asked == [("DELETE", "/api/jobs/a-1", None)] * 2


def test_webhooks_are_replayed(server: Server) -> None:
    server.answers = [(200, {"replayed": 2}), (200, {"replayed": 0})]
    assert run("webhooks", "replay", "a-1", "b-2") == (0, "", "2 webhooks will be sent again\n")
    assert run("webhooks", "replay") == (0, "", "0 webhooks will be sent again\n")
    assert [body for _, _, body in server.asked] == [{"job_ids": ["a-1", "b-2"]}, {"job_ids": []}]
    assert run("webhooks", "replay", "a-1")[0] == 1


@pytest.mark.parametrize("job_id", ["../health", "a?b", "a/b", ""])
def test_what_is_no_id_asks_for_nothing(server: Server, job_id: str) -> None:
    status, _, errors = run("jobs", "show", job_id)
    assert (status, server.asked) == (1, [])
    assert "is no id of a job" in errors


def test_an_answer_of_another_server_is_no_job(server: Server) -> None:
    server.answers = [(200, {"hello": "world"})]
    status, _, errors = run("jobs", "show", "a-1")
    assert status == 1
    assert "unknown shape" in errors
