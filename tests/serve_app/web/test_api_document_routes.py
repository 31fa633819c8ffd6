"""The documents name every route of the app, and no other."""

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute

from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app

APP = create_app(FakeService(), FakeSettings())


@pytest.fixture
async def client():
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://sotto.example") as client:
        yield client


async def test_openapi_has_every_http_route_and_no_other(client):
    document = (await client.get("/openapi.json")).json()
    served = {
        (method.lower(), route.path.replace(":path", ""))
        for route in APP.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    documented = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert documented == served
    assert len(served) > 15


async def test_asyncapi_has_every_socket_and_no_other(client):
    document = (await client.get("/asyncapi.json")).json()
    served = [route.path for route in APP.routes if isinstance(route, WebSocketRoute)]
    documented = [channel["address"] for channel in document["channels"].values()]
    assert sorted(documented) == sorted(served)


async def test_path_parameters_are_those_of_the_routes(client):
    document = (await client.get("/openapi.json")).json()
    for route in APP.routes:
        if isinstance(route, Route):
            for operation in document["paths"][route.path.replace(":path", "")].values():
                named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
                assert named == route.param_convertors.keys()


async def test_the_documents_carry_version_and_address(client):
    http = (await client.get("/openapi.json")).json()
    live = (await client.get("/asyncapi.json")).json()
    version = (await client.get("/")).json()["version"]
    assert http["info"]["version"] == live["info"]["version"] == version
    assert live["servers"] == {"here": {"host": "sotto.example", "protocol": "wss"}}
    assert http["servers"] == [{"url": "/"}]
