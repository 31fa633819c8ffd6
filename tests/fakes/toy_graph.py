"""A Serve application that is ready in a second, for tests of what starts and stops applications."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket


class _Duplex(StreamingResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)


async def hello(_: Request) -> Response:
    return JSONResponse({"hello": "world"})


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for data in socket.iter_bytes():
        await socket.send_json({"num_bytes": len(data)})


async def count(request: Request) -> Response:
    async def answer() -> AsyncIterator[bytes]:
        async for part in request.stream():
            if part:
                yield json.dumps({"num_bytes": len(part)}).encode() + b"\n"

    return _Duplex(answer(), media_type="application/x-ndjson")


def routes() -> Starlette:
    return Starlette(
        routes=[
            Route("/", hello),
            WebSocketRoute("/echo", echo),
            Route("/count", count, methods=["POST"]),
        ]
    )


class Toy:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings.get("broken"):
            raise RuntimeError("the toy is broken")


def build(args: Mapping[str, Any]) -> serve.Application:
    options: dict[str, Any] = {"name": "Toy", "ray_actor_options": {"num_cpus": 0.1}}
    toy = serve.deployment(serve.ingress(routes)(Toy), **options)
    return toy.bind(args.get("settings") or {})
