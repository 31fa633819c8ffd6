"""`/metrics` on a port of its own, for scrapers that may not reach the doors."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.telemetry.exposition import CONTENT_TYPE

CLOSING_S = 1


def listen_for_scrapers(host: str, port: int) -> socket.socket:
    """A listening socket that other ingress replicas of this machine may share: each answers for all.

    Raises `OSError` with a sentence where the port is another program's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"metrics_port: {host}:{port} cannot be listened on: {error.strerror}") from error
    return listener


async def serve_metrics(listener: socket.socket, text: Callable[[], Awaitable[str]]) -> None:
    """Answer `GET /metrics` on `listener` until it is cancelled."""

    async def metrics(request: Request) -> Response:
        return Response(await text(), headers={"content-type": CONTENT_TYPE})

    app = Starlette(routes=[Route("/metrics", metrics)])
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=CLOSING_S
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="metrics port")
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        listener.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process's signals are Serve's."""
        yield
