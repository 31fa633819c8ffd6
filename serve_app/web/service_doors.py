"""`GET /`, the live page, the probes, metrics, and the documents of all doors for machines."""

from __future__ import annotations

import asyncio
import time
from functools import cache

import structlog
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app import __version__
from serve_app.cache.ports import CacheLost, CacheStats
from serve_app.core.errors import JobsUnavailable, StorageUnavailable, UnknownPath
from serve_app.protocols import health
from serve_app.protocols.cache_stats import CacheCleared, stats_body
from serve_app.protocols.documents.build import Document, asyncapi_document, openapi_document
from serve_app.protocols.health import ServiceInfo
from serve_app.protocols.operate import Known, operating_body
from serve_app.telemetry.exposition import CONTENT_TYPE
from serve_app.web.door import Door, Endpoint, Endpoints
from serve_app.web.page_files import INDEX, page_files, wants_page
from serve_app.web.records import RecordResponse

log = structlog.get_logger(__name__)


def service_endpoints(door: Door) -> Endpoints:
    info = ServiceInfo(
        version=__version__,
        language=door.settings.language or "auto",
        max_audio_length_s=door.settings.max_audio_length_seconds,
        cache_type=None if door.cache is None else door.cache.kind,
        endpoints=tuple(map(str, door.described)),
        partial_interval_ms=door.settings.partial_interval_ms,
        max_partial_window_s=door.settings.max_partial_window_s,
    )
    files = page_files()  # read here: an endpoint must not wait for a disk
    has_started = False

    # Built when they are first asked for: 150 ms that a start need not wait for.
    @cache
    def http() -> Document:
        return openapi_document(__version__, door.described)

    @cache
    def channels() -> Document:
        return asyncapi_document(__version__, door.described)

    async def root(request: Request) -> Response:
        """The live page to a browser, JSON to all others."""
        if wants_page(request.headers):
            answer = files[INDEX].answer(request.headers)
        else:
            answer = RecordResponse(health.root_body(door.service.status(), info))
        answer.headers["vary"] = "Accept"
        return answer

    async def page_file(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None:
            raise UnknownPath("the live page has no such file")
        return file.answer(request.headers)

    def page(name: str) -> Endpoint:
        async def html(request: Request) -> Response:
            return files[name].answer(request.headers)

        return html

    async def operate(request: Request) -> Response:
        """What cannot be asked now is left out of the answer, which is for those who find out why."""
        replicas = jobs_waiting = None
        try:
            replicas = await door.replicas() if door.replicas is not None else None
        except StorageUnavailable:
            log.warning("the replicas cannot be counted")
        try:
            jobs_waiting = await door.jobs.num_waiting() if door.jobs is not None else None
        except JobsUnavailable:
            log.warning("the waiting jobs cannot be counted")
        known = Known(
            status=door.service.status(),
            version=__version__,
            figures=await door.service.metrics_text() if door.settings.metrics_enabled else None,
            jobs_waiting=jobs_waiting,
            replicas=replicas,
            keys=None if door.keys is None else door.keys.listed(),
        )
        return RecordResponse(await asyncio.to_thread(operating_body, known, time.time()))

    async def alive(request: Request) -> Response:
        return RecordResponse(health.health_body(door.service.status(), info))

    async def live(request: Request) -> Response:
        return RecordResponse(health.Live())

    async def ready(request: Request) -> Response:
        status = door.service.status()
        return RecordResponse(health.ready_body(status), status_code=200 if status.ready else 503)

    async def startup(request: Request) -> Response:
        nonlocal has_started
        has_started = has_started or door.service.status().ready
        return RecordResponse(health.startup_body(has_started), status_code=200 if has_started else 503)

    async def status_page(request: Request) -> Response:
        status = health.status_body(door.service.status())
        if door.keeper is not None:
            status = replace(status, audit_log="failing" if door.keeper.is_failing else "writing")
        return RecordResponse(status)

    async def operator_status(request: Request) -> Response:
        return RecordResponse(health.operator_status_body(door.service.status(), info))

    async def metrics(request: Request) -> Response:
        """The whole cluster in one scrape; 404 where metrics are off, or on a port of their own."""
        if not door.settings.metrics_enabled or door.settings.metrics_port is not None:
            raise UnknownPath("metrics are not served here: see metrics_enabled and metrics_port")
        return Response(await door.service.metrics_text(), headers={"content-type": CONTENT_TYPE})

    async def stats(request: Request) -> Response:
        if door.cache is None:
            return RecordResponse(stats_body(None, CacheStats()))
        try:
            known = await door.cache.stats()
        except CacheLost:
            known = None
        return RecordResponse(stats_body(door.cache.kind, known))

    async def clear_cache(request: Request) -> Response:
        try:
            if door.cache is not None:
                await door.cache.clear()
        except CacheLost:
            raise StorageUnavailable("the result cache does not answer: it was not cleared") from None
        return RecordResponse(CacheCleared())

    async def openapi(request: Request) -> Response:
        return JSONResponse(http())

    async def asyncapi(request: Request) -> Response:
        """The server is as the client called it."""
        protocol = "wss" if request.url.scheme == "https" else "ws"
        here = {"host": request.headers.get("host", ""), "protocol": protocol}
        return JSONResponse({**channels(), "servers": {"here": here}})

    return {
        "root": root,
        "pageFile": page_file,
        "operatePage": page("operate.html"),
        "recordingsPage": page("recordings.html"),
        "operate": operate,
        "health": alive,
        "live": live,
        "healthReady": ready,
        "ready": ready,
        "startup": startup,
        "status": status_page,
        "operatorStatus": operator_status,
        "metrics": metrics,
        "stats": stats,
        "clearCache": clear_cache,
        "openapi": openapi,
        "asyncapi": asyncapi,
    }
