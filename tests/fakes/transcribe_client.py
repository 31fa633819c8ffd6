"""A client of the upload doors of an application in this process."""

import httpx

from fakes.fake_service import FakeSettings
from fakes.local_metrics import LocalInstruments
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import create_app


def client_of(service, local=None, **changes):
    app = create_app(service, FakeSettings(**changes), Metrics(local or LocalInstruments()))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://sotto")


def file_of(data, name="talk.wav"):
    return {"file": (name, data, "application/octet-stream")}
