"""The doors of the service itself: what it is, probes, metrics and the documents."""

from __future__ import annotations

from typing import Any, Final

from serve_app.access.caller import Scope
from serve_app.protocols import cache_stats, health, operate
from serve_app.protocols.doors import Answer, Operation


def _page(path: str, name: str, summary: str, record: Any, *, not_ready: bool = False) -> Operation:
    answers = [Answer(record=record)]
    if not_ready:
        answers.append(Answer(503, "Not yet.", record))
    return Operation("get", path, name, "service", summary, tuple(answers), needs_key=False, scope=None)


def _html(path: str, name: str, summary: str) -> Operation:
    answers = (Answer(texts=("text/html",)),)
    return Operation("get", path, name, "service", summary, answers, needs_key=False, scope=None)


DOORS: Final = (
    _page("/openapi.json", "openapi", "This document", dict[str, Any]),
    _page("/asyncapi.json", "asyncapi", "The WebSocket doors, as AsyncAPI 3.0", dict[str, Any]),
    Operation(
        method="get",
        path="/",
        name="root",
        tag="service",
        summary="What this is, its settings and its doors; to a browser the live page",
        answers=(Answer(record=health.Root, texts=("text/html",)),),
        needs_key=False,
        scope=None,
    ),
    Operation(
        method="get",
        path="/page/{name:path}",
        name="pageFile",
        tag="service",
        summary="A file of the live page",
        answers=(Answer(texts=("text/javascript", "text/css", "image/svg+xml", "audio/flac", "text/html")),),
        errors=(404,),
        needs_key=False,
        scope=None,
    ),
    _html("/operate", "operatePage", "For those who run it: a page that shows what `GET /v1/operate` says"),
    _html("/recordings", "recordingsPage", "Queued and stored recordings of a key, in a browser"),
    Operation(
        method="get",
        path="/v1/operate",
        name="operate",
        tag="service",
        summary="Sessions, queues, replicas, GPUs, failures and keys, of the whole service",
        description="Some ten seconds old, as far as it is counted by replicas. No secrets, and no words.",
        answers=(Answer(record=operate.Operating),),
        scope=Scope.ADMIN,
    ),
    _page("/health", "health", "Alive, with model and cache; always 200", health.Health),
    _page("/health/live", "live", "The process answers", health.Live),
    _page("/health/ready", "healthReady", "Every model is loaded and answers", health.Ready, not_ready=True),
    _page("/health/startup", "startup", "It has been ready once", health.Startup, not_ready=True),
    _page("/health/status", "status", "Models, queue, sessions and load", health.Status),
    _page("/status", "operatorStatus", "Queues, workers, backpressure, config", health.OperatorStatus),
    _page("/ready", "ready", "Every model is loaded and answers", health.Ready, not_ready=True),
    Operation(
        method="get",
        path="/metrics",
        name="metrics",
        tag="service",
        summary="Prometheus text of the whole cluster",
        answers=(Answer(texts=("text/plain",)),),
        errors=(404,),
        needs_key=False,
        scope=Scope.METRICS,
    ),
    Operation(
        method="get",
        path="/stats",
        name="stats",
        tag="service",
        summary="Hits and misses of the result cache, of the whole cluster",
        answers=(Answer(record=cache_stats.Stats),),
        scope=Scope.METRICS,
    ),
    Operation(
        method="delete",
        path="/cache",
        name="clearCache",
        tag="service",
        summary="Forget all cached results, of every key and every replica",
        answers=(Answer(record=cache_stats.CacheCleared),),
        errors=(503,),
        scope=Scope.ADMIN,
    ),
)
