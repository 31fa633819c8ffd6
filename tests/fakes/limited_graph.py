"""All doors with limits in two ingress replicas, as the graph has them; what they open is scripted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray import serve
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from deployments.limits import shared_counts
from fakes.fake_service import FakeService, FakeSettings
from serve_app.assembly.access import limiter_of
from serve_app.settings import Settings
from serve_app.web.app import Guards, create_app


class Limited:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = Settings.from_dict({k: v for k, v in settings.items() if k not in ("host", "port")})

    def __serve_build_asgi_app__(self) -> Starlette:  # noqa: PLW3201 - the name is Serve's
        app = create_app(
            FakeService(max_sessions=1_000),
            FakeSettings(idle_timeout_s=600, start_timeout_s=600, max_session_s=600),
            guards=Guards(
                addresses=self._settings.address_rules(), limiter=limiter_of(self._settings, shared_counts())
            ),
        )
        app.routes.append(Route("/pid", lambda request: JSONResponse({"pid": os.getpid()})))
        return app


def build(args: Mapping[str, Any]) -> serve.Application:
    options: dict[str, Any] = {
        "num_replicas": 2,
        "max_ongoing_requests": 1_000,
        "health_check_period_s": 1,
        "ray_actor_options": {"num_cpus": 0.1},
    }
    return serve.deployment(serve.ingress()(Limited), **options).bind(args.get("settings") or {})
