"""Web pages that are not listed reach no door that transcribes."""

import json

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fakes.app_server import running_app
from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import Guards, create_app
from serve_app.web.origins import KnownOrigins

PAGE = "https://app.example.org"


def routes_of(kind):
    return [route for route in create_app(FakeService(), FakeSettings()).routes if isinstance(route, kind)]


LIVE_DOORS = sorted({route.path for route in routes_of(WebSocketRoute)})
POST_DOORS = sorted({route.path for route in routes_of(Route) if "POST" in (route.methods or ())})


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def port(service):
    with running_app(create_app(service, FakeSettings(), guards=Guards(cors_origins=[PAGE]))) as port:
        yield port


async def refusal_of(port, path, **options):
    """The answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, **options):
            pass
    return refused.value.response


async def test_the_doors_that_are_tried_are_there():
    assert {"/ws/stt", "/ws", "/asr", "/ws/stream", "/v1/listen", "/v1/realtime"} <= set(LIVE_DOORS)
    assert {"/transcribe", "/transcribe/stream", "/v1/listen", "/v1/audio/transcriptions"} <= set(POST_DOORS)


@pytest.mark.parametrize("path", LIVE_DOORS)
async def test_live_doors_refuse_a_page_that_is_not_listed_and_say_why(port, path):
    refused = await refusal_of(port, path, origin="https://evil.example")
    body = json.loads(refused.body)
    shape = {"/v1/listen": "err_code", "/v1/realtime": "error"}.get(path, "detail")
    assert refused.status_code == 403
    assert shape in body
    assert "https://evil.example" in str(body)
    assert "cors_origins" in str(body)


@pytest.mark.slow
@pytest.mark.parametrize("path", LIVE_DOORS)
@pytest.mark.parametrize("origin", [None, PAGE, "same"])
async def test_live_doors_take_native_clients_listed_pages_and_their_own(port, path, origin):
    origin = f"http://127.0.0.1:{port}" if origin == "same" else origin
    async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, origin=origin) as socket:
        assert socket.response.status_code == 101


@pytest.mark.parametrize("path", POST_DOORS)
async def test_posts_of_a_page_that_is_not_listed_are_refused_unread(service, path):
    transport = httpx.ASGITransport(create_app(service, FakeSettings(), guards=Guards(cors_origins=[PAGE])))
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        simple = {"origin": "https://evil.example", "content-type": "text/plain"}
        refused = await client.post(path, headers=simple, content=b"audio")
        assert service.sessions == []
        native = await client.post(path, content=b"audio")
    assert refused.status_code == 403
    assert "cors_origins" in refused.text
    assert "access-control-allow-origin" not in refused.headers
    assert native.status_code != 403
    assert service.uploads == []


async def test_pages_of_other_origins_may_still_ask_for_what_is_no_secret(port):
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(
            f"http://127.0.0.1:{port}/health/live", headers={"origin": "https://evil.example"}
        )
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


async def status_for(origin, listed=(), **headers):
    """What a POST to `sotto.example:8000` from a page of `origin` is answered."""
    app = KnownOrigins(PlainTextResponse("passed"), listed)
    given = {
        "host": "sotto.example:8000",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sotto") as client:
        return (await client.post("/transcribe", headers={"origin": origin, **given})).status_code


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "file://", "chrome-extension://abc"])
async def test_any_origin_passes_only_where_it_or_all_are_listed(origin):
    assert await status_for(origin) == 403
    assert await status_for(origin, listed=[PAGE]) == 403
    assert await status_for(origin, listed=[PAGE, origin]) == 200
    assert await status_for(origin, listed=["*"]) == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://sotto.example:8000", 200),
        ("https://sotto.example:8000", 200),  # a proxy ended TLS
        ("https://SOTTO.example:8000", 200),
        ("https://sotto.example", 403),
        ("https://sotto.example:8001", 403),
        ("https://other.sotto.example:8000", 403),
        ("https://sotto.example.evil.example:8000", 403),
        ("chrome-extension://sotto.example:8000", 403),
        ("https://sotto.example:port", 403),
        ("https://[", 403),
        ("", 403),
    ],
)
async def test_a_page_of_the_very_host_and_port_passes(origin, status):
    assert await status_for(origin) == status


async def test_the_default_port_of_a_page_needs_no_name():
    assert await status_for("https://sotto.example", host="sotto.example") == 200
    assert await status_for("https://sotto.example", host="sotto.example:443") == 200
    assert await status_for("http://sotto.example", host="sotto.example:443") == 403
    assert await status_for("http://[::1]:8000", host="[::1]:8000") == 200


async def test_a_proxy_may_name_the_host_that_was_asked():
    proxied = {"host": "10.0.0.7:8000", "x_forwarded_host": "speech.example.org, inner.example.org"}
    assert await status_for("https://speech.example.org", **proxied) == 200
    assert await status_for("https://inner.example.org", **proxied) == 403


async def test_a_listed_origin_is_found_however_it_was_written():
    assert await status_for("https://app.example.org", listed=["https://App.example.org/"]) == 200


async def test_a_server_that_cannot_answer_a_handshake_closes_it(service):
    app = create_app(service, FakeSettings())
    with pytest.raises(AssertionError):
        async with AsgiSocket(app, headers=[(b"origin", b"https://evil.example")]):
            pass
    assert service.sessions == []
