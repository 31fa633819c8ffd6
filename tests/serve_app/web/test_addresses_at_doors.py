"""Clients whose address is kept out reach no door, and every door knows the address of those it serves."""

import json

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fakes.app_server import running_app
from fakes.door_errors import shape_of
from fakes.fake_service import FakeService, FakeSettings
from serve_app.access.addresses import AddressRules
from serve_app.access.caller import Caller
from serve_app.web.addresses import Addresses
from serve_app.web.app import Guards, create_app
from serve_app.web.callers import caller_of, set_caller

CLIENT = "203.0.113.9"
ROUTES = create_app(FakeService(), FakeSettings()).routes
LIVE_DOORS = sorted({route.path for route in ROUTES if isinstance(route, WebSocketRoute)})
HTTP_DOORS = sorted(
    {(min((route.methods or set()) - {"HEAD"}), route.path) for route in ROUTES if isinstance(route, Route)}
)


@pytest.fixture(scope="module")
def port():
    rules = AddressRules(deny=["203.0.113.0/24"])
    with running_app(create_app(FakeService(), FakeSettings(), guards=Guards(addresses=rules))) as port:
        yield port


@pytest.mark.parametrize(("method", "path"), HTTP_DOORS)
async def test_a_denied_address_gets_nowhere(port, method, path):
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{port}{path}"
        refused = await client.request(method, url, headers={"x-forwarded-for": CLIENT})
    assert refused.status_code == 403
    assert shape_of(path) in refused.json()


@pytest.mark.parametrize("path", LIVE_DOORS)
async def test_a_denied_address_opens_no_socket(port, path):
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            f"ws://127.0.0.1:{port}{path}", proxy=None, additional_headers={"X-Forwarded-For": CLIENT}
        ):
            pass
    assert refused.value.response.status_code == 403
    assert shape_of(path) in json.loads(refused.value.response.body)


async def test_what_a_client_claims_about_itself_opens_nothing(port):
    claims = {"x-forwarded-for": f"127.0.0.1, {CLIENT}", "forwarded": "for=127.0.0.1"}
    async with httpx.AsyncClient(trust_env=False) as client:
        refused = await client.get(f"http://127.0.0.1:{port}/health", headers=claims)
        welcome = await client.get(f"http://127.0.0.1:{port}/health", headers={"x-real-ip": CLIENT})
    assert (refused.status_code, welcome.status_code) == (403, 200)


async def seen_by_a_door(headers, caller=None):
    seen = []

    async def door(scope, receive, send):
        if caller is not None:
            set_caller(scope, caller)
        seen.append(caller_of(scope))

    scope = {
        "type": "http",
        "path": "/",
        "method": "GET",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "headers": headers,
    }
    await Addresses(door, AddressRules())(scope, None, None)
    return seen[0]


async def test_a_door_knows_the_address_with_and_without_a_key():
    headers = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", CLIENT.encode())]
    assert (await seen_by_a_door(headers)).address == CLIENT
    known = await seen_by_a_door(headers, Caller("key-1", "clinic"))
    assert (known.key_id, known.address) == ("key-1", CLIENT)
    assert (await seen_by_a_door([])).address == "127.0.0.1"
