"""One app with all the doors there are."""

from __future__ import annotations

from fakes.fake_service import FakeService, FakeSettings
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route, WebSocketRoute

from serve_app.telemetry.metrics import no_metrics
from serve_app.web.api_documents import api_document_routes
from serve_app.web.app import create_app
from serve_app.web.deepgram_doors import deepgram_routes
from serve_app.web.door import Door
from serve_app.web.openai_doors import openai_routes


def every_door(service: FakeService, settings: FakeSettings | None = None) -> Starlette:
    """`create_app`, with the doors that it leaves out."""
    settings = settings or FakeSettings()
    app = create_app(service, settings)
    door = Door(service, settings, no_metrics())
    there = {_key(route) for route in app.router.routes}
    for route in (*api_document_routes(door), *openai_routes(door), *deepgram_routes(door)):
        if _key(route) not in there:
            app.router.routes.append(route)
    return app


def _key(route: BaseRoute) -> tuple[type, str]:
    assert isinstance(route, Route | WebSocketRoute)
    return type(route), route.path
