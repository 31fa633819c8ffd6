"""`sotto health` against servers that are well, busy, slow, wrong or not there, with a webhook."""

import json
import socket

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from typer.testing import CliRunner

from fakes.app_server import running_app
from serve_app.cli import health
from serve_app.cli.app import app

runner = CliRunner()
WELL = {
    "accepting_requests": True,
    "connections": 3,
    "backpressure": {"level": "normal"},
    "config": {"max_sessions": 100},
}


class Server:
    """What the probes answer, and what the webhook was told."""

    def __init__(self):
        self.health = (200, {"status": "healthy"})
        self.status = dict(WELL)
        self.slack_status = 200
        self.told = []
        self.keys = set()

    def app(self):
        async def alive(request):
            status, body = self.health
            return JSONResponse(body, status_code=status)

        async def page(request):
            self.keys.add(request.headers.get("authorization"))
            return JSONResponse(self.status) if self.status else PlainTextResponse("<html>")

        async def slack(request):
            self.told.append((await request.json())["text"])
            return PlainTextResponse("ok", status_code=self.slack_status)

        return Starlette(
            routes=[
                Route("/health", alive),
                Route("/status", page),
                Route("/hook/secret", slack, methods=["POST"]),
            ]
        )


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def address(server):
    with running_app(server.app()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(health, "DEFAULT_CACHE_DIR", tmp_path)
    for name in ("SLACK_WEBHOOK_URL", "STT_SLACK_WEBHOOK_URL", "STT_API_KEY", "API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def check(address, *flags):
    return runner.invoke(app, ["health", "--url", address, *flags])


def test_a_server_that_is_well(address, server):
    result = check(address, "--api-key", "abc")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Sotto at {address} is well: answered in 0.")
    assert result.stdout.endswith("; 3 of 100 sessions\n")
    assert server.keys == {"Bearer abc"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"accepting_requests": False}, "it takes no new sessions"),
        ({"backpressure": {"level": "critical"}}, "backpressure is critical"),
    ],
)
def test_a_server_that_has_too_much_to_do(address, server, change, reason):
    server.status |= change
    result = check(address, "--json")
    assert result.exit_code == 1
    body = json.loads(result.stdout)
    assert (body["state"], body["reasons"], body["active_sessions"]) == ("degraded", [reason], 3)


def test_models_that_are_not_loaded(address, server):
    server.health = (200, {"status": "unhealthy"})
    result = check(address)
    assert result.exit_code == 1
    assert "is degraded: its models are not loaded" in result.stdout


def test_a_slow_answer(address, monkeypatch):
    monkeypatch.setattr(health, "SLOW_S", 0.0)
    assert check(address).exit_code == 1


def test_other_bodies_than_expected_are_no_reason_to_fail(address, server):
    server.status = {}
    assert check(address).exit_code == 0
    server.status = {"connections": "many", "config": [], "backpressure": None}
    assert check(address).exit_code == 0


def test_a_server_that_answers_with_an_error(address, server):
    server.health = (502, {})
    result = check(address)
    assert result.exit_code == 2
    assert "is DOWN: GET /health answers 502" in result.stdout


def test_no_server_and_one_that_says_nothing():
    result = check("http://127.0.0.1:1", "--timeout", "5")
    assert result.exit_code == 2
    assert "cannot be reached (ConnectError)" in result.stdout
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        result = check(f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.2")
    assert result.exit_code == 2
    assert "no answer within 0.2 s" in result.stdout


def test_slack_hears_of_changes_only(address, server):
    hook = ("--slack-webhook", f"{address}/hook/secret")
    check(address, *hook)
    assert server.told == []
    server.health = (503, {})
    for _ in range(3):
        assert check(address, *hook).exit_code == 2
    assert server.told == [f"Sotto at {address} is DOWN: GET /health answers 503"]
    server.health = (200, {"status": "healthy"})
    check(address, *hook)
    check(address, *hook)
    assert len(server.told) == 2
    assert "is well" in server.told[1]


def test_what_slack_did_not_take_is_told_again(address, server, monkeypatch):
    monkeypatch.setenv("SLACK_WEBHOOK_URL", f"{address}/hook/secret")
    server.health, server.slack_status = (503, {}), 500
    result = check(address)
    assert result.exit_code == 2
    assert "Slack could not be told (HTTP 500)" in result.stderr
    assert "secret" not in result.output
    server.slack_status = 200
    check(address)
    check(address)
    assert len(server.told) == 2


def test_a_folder_that_cannot_be_written_makes_every_check_tell(address, server, monkeypatch, own_folder):
    blocked = own_folder / "file"
    blocked.write_text("")
    monkeypatch.setattr(health, "DEFAULT_CACHE_DIR", blocked)
    server.health = (503, {})
    for _ in range(2):
        assert check(address, "--slack-webhook", f"{address}/hook/secret").exit_code == 2
    assert len(server.told) == 2


def test_a_webhook_that_is_no_address_is_a_usage_error_without_it(address):
    result = check(address, "--slack-webhook", "hooks/secret")
    assert result.exit_code == 2
    assert "must begin with https://" in result.stderr
    assert "hooks/secret" not in result.output


def test_names_and_passwords_are_not_shown():
    assert health.shown_address("https://user:word@speech.example/base") == "https://speech.example/base"
