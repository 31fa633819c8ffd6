"""A service with a key: no door is open without it but those that say how the service is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from fakes.app_server import running_app
from fakes.door_errors import shape_of
from fakes.fake_service import FakeService, FakeSettings
from serve_app.access.keyring import Keyring
from serve_app.protocols.doors import Channel, Operation
from serve_app.web.app import Guards, create_app
from serve_app.web.door_table import doors_of

KEY = "correct horse battery staple"
WRONG = ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}, {"authorization": f"Bearer {KEY}x"})
RIGHT = ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"authorization": f"Token {KEY}"})

OPERATIONS = [one for one in doors_of() if isinstance(one, Operation)]
CLOSED = [one for one in OPERATIONS if one.needs_key]
OPEN = [one for one in OPERATIONS if not one.needs_key]
LIVE = [one for one in doors_of() if isinstance(one, Channel)]


@pytest.fixture(scope="module")
def service() -> FakeService:
    return FakeService()


@pytest.fixture(scope="module")
def port(service: FakeService) -> Iterator[int]:
    app = create_app(service, FakeSettings(), guards=Guards(keys=Keyring(plain=KEY)), signing_key=b"signs")
    with running_app(app) as port:
        yield port


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)


def path_of(door: Operation) -> str:
    return door.path.replace("{name:path}", "base")


def test_what_stays_open_is_a_short_list() -> None:
    assert sorted(one.path for one in OPEN) == [
        "/",
        "/asyncapi.json",
        "/health",
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/health/status",
        "/metrics",
        "/openapi.json",
        "/operate",
        "/page/{name:path}",
        "/ready",
        "/recordings",
        "/status",
    ]
    assert {"/transcribe", "/transcribe/stream", "/v1/listen", "/v1/models"} <= {one.path for one in CLOSED}


@pytest.mark.parametrize("door", CLOSED, ids=str)
async def test_closed_doors_refuse_without_the_key_and_read_nothing(
    port: int, service: FakeService, door: Operation
) -> None:
    before = len(service.uploads), len(service.sessions)
    async with client(port) as http:
        for headers in WRONG:
            answer = await http.request(door.method.upper(), path_of(door), headers=headers, content=b"audio")
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["connection"] == "close"
            assert shape_of(door.path) in answer.json()
    assert (len(service.uploads), len(service.sessions)) == before


@pytest.mark.parametrize("door", CLOSED, ids=str)
@pytest.mark.parametrize("headers", RIGHT, ids=["X-API-Key", "Bearer", "Token"])
async def test_closed_doors_open_with_the_key(port: int, door: Operation, headers: dict[str, str]) -> None:
    async with client(port) as http:
        answer = await http.request(door.method.upper(), path_of(door), headers=headers, content=b"audio")
    assert answer.status_code != 401


@pytest.mark.parametrize("door", OPEN, ids=str)
async def test_probes_metrics_and_documents_need_no_key(port: int, door: Operation) -> None:
    async with client(port) as http:
        path = door.path.replace("{name:path}", "main.js")
        assert (await http.get(path)).status_code in (200, 503)
        assert (await http.post(path)).status_code == 401


async def test_an_unknown_path_says_nothing_without_the_key(port: int) -> None:
    async with client(port) as http:
        assert (await http.get("/nope")).status_code == 401
        assert (await http.get("/nope", headers=RIGHT[0])).status_code == 404
        assert (await http.get("/v1/models/../../transcribe")).status_code == 401


async def refusal_of(port: int, path: str, **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, **options):
            pass
    return refused.value.response


@pytest.mark.parametrize("door", LIVE, ids=str)
async def test_sockets_are_refused_at_the_handshake_and_opened_with_the_key(port: int, door: Channel) -> None:
    for headers in WRONG:
        refused = await refusal_of(port, door.path, additional_headers=headers)
        assert refused.status_code == 401
        assert shape_of(door.path) in json.loads(refused.body)
    for headers in RIGHT:
        async with connect(
            f"ws://127.0.0.1:{port}{door.path}", proxy=None, additional_headers=headers
        ) as socket:
            assert socket.response is not None
            assert socket.response.status_code == 101


@pytest.mark.parametrize("path", ["/ws/stt", "/ws", "/v1/listen"])
async def test_browsers_offer_the_key_as_a_subprotocol(port: int, path: str) -> None:
    """A key has to be a token of HTTP there (RFC 6455, section 4.1)."""
    app = create_app(FakeService(), FakeSettings(), guards=Guards(keys=Keyring(plain="hunter2")))
    with running_app(app) as other:
        url = f"ws://127.0.0.1:{other}{path}"
        offered = [Subprotocol("token"), Subprotocol("hunter2")]
        async with connect(url, proxy=None, subprotocols=offered) as socket:
            assert socket.subprotocol == "token"
        refused = await refusal_of(other, path, subprotocols=[offered[0], Subprotocol("hunter3")])
    assert refused.status_code == 401


async def test_a_client_secret_opens_the_realtime_socket_and_nothing_else(port: int) -> None:
    async with client(port) as http:
        made = await http.post("/v1/realtime/client_secrets", headers=RIGHT[1], json={})
        secret = made.json()["value"]
        bearer = {"authorization": f"Bearer {secret}"}
        assert (await http.post("/v1/realtime/client_secrets", headers=bearer, json={})).status_code == 401
        assert (await http.get("/v1/models", headers=bearer)).status_code == 401
    url = f"ws://127.0.0.1:{port}/v1/realtime?intent=transcription"
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{secret}")]
    async with connect(url, proxy=None, subprotocols=offered) as socket:
        assert socket.subprotocol == "realtime"
    refused = await refusal_of(
        port, "/v1/realtime", additional_headers={"authorization": f"Bearer {secret}x"}
    )
    assert refused.status_code == 401


async def test_no_key_is_logged() -> None:
    transport = httpx.ASGITransport(
        create_app(FakeService(), FakeSettings(), guards=Guards(keys=Keyring(plain=KEY)))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as http:
        with capture_logs() as logs:
            await http.post("/transcribe", headers={"x-api-key": "a wrong secret"})
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["key refused"]
    assert "a wrong secret" not in str(logs)
    assert KEY not in str(logs)


async def test_a_service_without_a_key_asks_for_none() -> None:
    transport = httpx.ASGITransport(create_app(FakeService(), FakeSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as http:
        assert (await http.get("/v1/models")).status_code == 200
