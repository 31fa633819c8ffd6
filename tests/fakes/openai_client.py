"""A client of OpenAI's doors alone, in this process."""

import httpx
from fakes.fake_service import FakeSettings
from starlette.applications import Starlette

from serve_app.telemetry.local_metrics import LocalInstruments
from serve_app.telemetry.metrics import Recorder
from serve_app.web.door import Door
from serve_app.web.errors import exception_handlers
from serve_app.web.openai_doors import openai_routes

KEY = b"k" * 32
"""What secrets are signed with."""


def door_of(service, local=None, **changes):
    return Door(service, FakeSettings(**changes), Recorder(local or LocalInstruments()))


def app_of(service, local=None, **changes):
    routes = openai_routes(door_of(service, local, **changes), KEY)
    return Starlette(routes=routes, exception_handlers=exception_handlers())


def client_of(service, local=None, **changes):
    transport = httpx.ASGITransport(app_of(service, local, **changes), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://sotto")
