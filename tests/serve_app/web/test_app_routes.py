import json
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fakes.app_server import running_app
from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import Guards, create_app
from serve_app.web.request_ids import RequestIds

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "health.json").read_text())


def client_of(service, **options):
    app = create_app(service, FakeSettings(), **options)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://sotto")


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
async def client(service):
    async with client_of(service) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "root"),
        ("/health", "health"),
        ("/ready", "ready"),
        ("/health/ready", "ready"),
        ("/health/live", "live"),
        ("/health/startup", "startup"),
        ("/health/status", "status"),
    ],
)
async def test_pages_have_the_keys_of_the_golden_bodies(client, path, name):
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.json().keys() == GOLDEN[name].keys()


async def test_the_root_names_its_doors(client):
    body = (await client.get("/")).json()
    assert (body["service"], body["status"]) == ("sotto", "online")
    assert "WS /ws/stt" in body["endpoints"]


async def test_every_door_that_the_root_names_is_there(client, service):
    body = (await client.get("/")).json()
    for method, path in (endpoint.split() for endpoint in body["endpoints"]):
        if method != "WS" and "{" not in path:
            assert (await client.request(method, path)).status_code != 404
    async with AsgiSocket(create_app(service, FakeSettings())):
        pass


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ready", 503),
        ("/health/ready", 503),
        ("/health/startup", 503),
        ("/health", 200),
        ("/health/live", 200),
    ],
)
async def test_probes_before_the_models_are_loaded(client, service, path, status):
    service.ready = False
    assert (await client.get(path)).status_code == status


async def test_started_once_is_started_for_good(client, service):
    assert (await client.get("/health/startup")).status_code == 200
    service.ready = False
    assert (await client.get("/health/startup")).status_code == 200
    assert (await client.get("/ready")).status_code == 503


async def test_metrics_are_prometheus_text(client):
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert list(text_string_to_metric_families(answer.text))


async def test_unknown_paths_and_methods_are_json(client):
    missing = await client.get("/nowhere")
    assert missing.status_code == 404
    assert missing.json() == {"detail": "nothing is served at /nowhere: GET / lists what is"}
    wrong = await client.get("/transcribe")
    assert wrong.status_code == 405
    assert wrong.json() == {"detail": "GET is no method of /transcribe: it takes POST"}
    assert wrong.headers["allow"] == "POST"


async def test_a_get_of_a_socket_says_what_it_is(client):
    answer = await client.get("/ws/stt")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "/ws/stt is for WebSockets: open it with ws:// or wss://"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1", 404, "unknown_url"),
        ("POST", "/v1/chat/completions", 404, "unknown_url"),
        ("GET", "/v1/realtime", 404, "unknown_url"),
        ("GET", "/v1/audio/transcriptions", 405, "method_not_supported"),
        ("DELETE", "/v1/models", 405, "method_not_supported"),
    ],
)
async def test_below_v1_they_have_openais_shape(client, method, path, status, code):
    answer = await client.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, code)
    assert path in error["message"]
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_wrong_method_of_deepgrams_door_has_its_shape(client):
    answer = await client.get("/v1/listen")
    assert answer.status_code == 405
    assert answer.json().keys() == {"err_code", "err_msg", "request_id"}
    assert answer.headers["dg-error"]


@pytest.mark.parametrize("path", ["/nowhere", "/transcribe", "/v1/nowhere"])
async def test_sockets_where_there_is_none_are_answered_404(service, path):
    with running_app(create_app(service, FakeSettings())) as port, pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None):
            pass
    answer = refused.value.response
    body = json.loads(answer.body)
    said = body["error"]["message"] if path.startswith("/v1/") else body["detail"]
    assert answer.status_code == 404
    assert said == f"no WebSocket is served at {path}: GET / lists what is"
    assert len(answer.headers.get_all("x-request-id")) == 1


async def test_an_unexpected_failure_says_nothing_of_its_inside(client, service):
    def fail():
        raise RuntimeError("secret path /etc/passwd")

    service.status = fail
    answer = await client.get("/health/status")
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error"})


async def test_other_origins_are_not_let_in_by_default(client):
    answer = await client.get("/", headers={"origin": "https://example.org"})
    assert "access-control-allow-origin" not in answer.headers


async def test_named_origins_are_let_in(service):
    async with client_of(service, guards=Guards(cors_origins=["https://example.org"])) as client:
        named = await client.get("/", headers={"origin": "https://example.org"})
        other = await client.get("/", headers={"origin": "https://example.com"})
    assert named.headers["access-control-allow-origin"] == "https://example.org"
    assert "access-control-allow-origin" not in other.headers


async def test_request_ids_are_kept_or_made(client):
    kept = await client.get("/", headers={"x-request-id": "abc-123"})
    made = await client.get("/", headers={"x-request-id": "a b\tc"})
    assert kept.headers["x-request-id"] == "abc-123"
    assert len(made.headers["x-request-id"]) == 16
    assert (await client.get("/nowhere")).headers["x-request-id"]


async def test_request_ids_are_one_however_often_they_are_named(service):
    """A server around the application may name requests too, by the same class."""
    transport = httpx.ASGITransport(RequestIds(create_app(service, FakeSettings())))
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        kept = await client.get("/", headers={"x-request-id": "abc-123"})
        made = [await client.get("/", headers=headers) for headers in ({}, {"x-request-id": "a b"})]
    assert kept.headers.get_list("x-request-id") == ["abc-123"]
    assert [len(answer.headers.get_list("x-request-id")) for answer in made] == [1, 1]
    assert all(len(answer.headers["x-request-id"]) == 16 for answer in made)


async def test_sockets_have_request_ids_too(service):
    app = create_app(service, FakeSettings())
    async with AsgiSocket(app, headers=[(b"x-request-id", b"abc")]) as socket:
        assert (b"x-request-id", b"abc") in socket.accepted["headers"]
