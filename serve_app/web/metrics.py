"""`GET /metrics`: the whole cluster in one scrape."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve_app.telemetry.exposition import CONTENT_TYPE
from serve_app.web.door import Door


def metrics_routes(door: Door) -> list[BaseRoute]:
    async def metrics(request: Request) -> Response:
        text = await door.service.metrics_text()
        return Response(text, headers={"content-type": CONTENT_TYPE})

    return [Route("/metrics", metrics, methods=["GET"])]
