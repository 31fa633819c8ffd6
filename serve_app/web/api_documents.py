"""`GET /openapi.json` and `GET /asyncapi.json`: the doors, for machines."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from serve_app import __version__
from serve_app.protocols.api_documents import asyncapi_document, openapi_document
from serve_app.web.door import Door


def api_document_routes(door: Door) -> list[BaseRoute]:
    """The documents are the same for every door; only AsyncAPI's server is as the client called it."""
    http, live = openapi_document(__version__), asyncapi_document(__version__)

    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(http)

    async def asyncapi(request: Request) -> JSONResponse:
        protocol = "wss" if request.url.scheme == "https" else "ws"
        here = {"host": request.headers.get("host", ""), "protocol": protocol}
        return JSONResponse({**live, "servers": {"here": here}})

    return [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/asyncapi.json", asyncapi, methods=["GET"]),
    ]
