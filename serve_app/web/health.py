"""`GET /`, the probes and the status pages."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from serve_app import __version__
from serve_app.protocols import health
from serve_app.protocols.health import ServiceInfo
from serve_app.web.door import Door

ENDPOINTS = (
    "WS /ws/stt",
    "WS /ws",
    "WS /asr",
    "WS /ws/stream",
    "WS /api/ws/stream",
    "WS /v1/listen",
    "WS /v1/realtime",
    "POST /transcribe",
    "POST /transcribe/stream",
    "POST /v1/audio/transcriptions",
    "POST /v1/audio/translations",
    "GET /v1/models",
    "POST /v1/listen",
    "POST /v1/realtime/client_secrets",
    "GET /openapi.json",
    "GET /asyncapi.json",
    "GET /",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /health/startup",
    "GET /health/status",
    "GET /ready",
    "GET /metrics",
)


def health_routes(door: Door) -> list[BaseRoute]:
    info = ServiceInfo(
        version=__version__,
        language=door.settings.language or "auto",
        max_audio_length_s=door.settings.max_audio_length_seconds,
        endpoints=ENDPOINTS,
    )
    has_started = False

    async def root(request: Request) -> JSONResponse:
        return JSONResponse(health.root_body(door.service.status(), info))

    async def alive(request: Request) -> JSONResponse:
        return JSONResponse(health.health_body(door.service.status(), info))

    async def live(request: Request) -> JSONResponse:
        return JSONResponse(health.live_body())

    async def ready(request: Request) -> JSONResponse:
        status = door.service.status()
        return JSONResponse(health.ready_body(status), status_code=200 if status.ready else 503)

    async def startup(request: Request) -> JSONResponse:
        nonlocal has_started
        has_started = has_started or door.service.status().ready
        return JSONResponse(health.startup_body(has_started), status_code=200 if has_started else 503)

    async def status_page(request: Request) -> JSONResponse:
        return JSONResponse(health.status_body(door.service.status()))

    return [
        Route("/", root, methods=["GET"]),
        Route("/health", alive, methods=["GET"]),
        Route("/health/live", live, methods=["GET"]),
        Route("/health/ready", ready, methods=["GET"]),
        Route("/health/startup", startup, methods=["GET"]),
        Route("/health/status", status_page, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
    ]
