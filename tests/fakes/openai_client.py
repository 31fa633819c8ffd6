"""A client of OpenAI's doors alone, in this process."""

import httpx
from starlette.applications import Starlette

from fakes.fake_service import FakeSettings
from fakes.local_metrics import LocalInstruments
from serve_app.telemetry.metrics import Metrics
from serve_app.web.door import Door
from serve_app.web.door_table import OPENAI, routes_of
from serve_app.web.errors import exception_handlers

KEY = b"k" * 32
"""What secrets are signed with."""


def door_of(service, local=None, **changes):
    metrics = Metrics(local or LocalInstruments())
    return Door(service, FakeSettings(**changes), metrics, signing_key=KEY)


def app_of(service, local=None, **changes):
    routes = routes_of(door_of(service, local, **changes), [OPENAI])
    return Starlette(routes=routes, exception_handlers=exception_handlers())


def client_of(service, local=None, **changes):
    transport = httpx.ASGITransport(app_of(service, local, **changes), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://sotto")
