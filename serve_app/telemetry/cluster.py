"""The families on Ray's metrics, and one `/metrics` for the whole cluster, merged from its nodes' exporters.

Only this module of telemetry knows Ray, which its calls import. Ray's exporters put `ray_` before every name
and add labels; `exposition` takes both away. A histogram's `_sum` is Ray's estimate: it counts every
observation as the middle of its bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import structlog

from serve_app.telemetry.exposition import merge_expositions
from serve_app.telemetry.families import Family, Kind
from serve_app.telemetry.metrics import Instrument


class RayInstruments:
    """A factory for use inside a Serve replica (or any Ray worker)."""

    def instrument(self, family: Family) -> Instrument:
        from ray.serve import metrics

        match family.kind:
            case Kind.COUNTER:
                return _RayCounter(metrics.Counter(family.name, family.help, family.labels))
            case Kind.GAUGE:
                return _RayGauge(metrics.Gauge(family.name, family.help, family.labels))
            case Kind.HISTOGRAM:
                boundaries = list(family.buckets)
                return _RayHistogram(metrics.Histogram(family.name, family.help, boundaries, family.labels))


def ray_exporter_urls() -> list[str]:
    """The metrics exporter of every live node of the cluster that this process belongs to."""
    import ray

    return [
        f"http://{_bracketed(node['NodeManagerAddress'])}:{node['MetricsExportPort']}/metrics"
        for node in ray.nodes()
        if node["Alive"] and node.get("MetricsExportPort")
    ]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


class _RayCounter:
    def __init__(self, counter: Any) -> None:
        self._counter = counter

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        if value > 0:  # Ray refuses to add nothing
            self._counter.inc(value, tags=dict(labels))


class _RayGauge:
    def __init__(self, gauge: Any) -> None:
        self._gauge = gauge

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self._gauge.set(value, tags=dict(labels))


class _RayHistogram:
    def __init__(self, histogram: Any) -> None:
        self._histogram = histogram

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self._histogram.observe(value, tags=dict(labels))


log = structlog.get_logger(__name__)

MAX_EXPOSITION_BYTES = 32 * 1024 * 1024


class ClusterMetrics:
    """Fetches and merges; calls at the same time share one fetch.

    `exporter_urls` is asked in a thread before each fetch (it may talk to the cluster). A node that does not
    answer within `timeout_s` is left out of that answer, with a warning in the log.
    """

    def __init__(
        self,
        exporter_urls: Callable[[], Sequence[str]],
        *,
        timeout_s: float = 2.0,
        cache_s: float = 2.0,
        max_bytes: int = MAX_EXPOSITION_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._exporter_urls = exporter_urls
        self._timeout_s = timeout_s
        self._cache_s = cache_s
        self._max_bytes = max_bytes
        self._transport = transport
        self._lock = asyncio.Lock()
        self._text = ""
        self._fresh_until_s = float("-inf")

    async def text(self) -> str:
        """The merged exposition, at most `cache_s` old."""
        clock_s = asyncio.get_running_loop().time
        if clock_s() < self._fresh_until_s:
            return self._text
        async with self._lock:
            if clock_s() >= self._fresh_until_s:
                self._text = await self._fetch_all()
                self._fresh_until_s = clock_s() + self._cache_s
        return self._text

    async def _fetch_all(self) -> str:
        urls = await asyncio.to_thread(self._exporter_urls)
        # trust_env off: a proxy from the environment has no business between the nodes of a cluster
        async with httpx.AsyncClient(
            timeout=self._timeout_s, transport=self._transport, trust_env=False
        ) as client:
            texts = await asyncio.gather(*(self._fetch(client, url) for url in urls))
        return await asyncio.to_thread(merge_expositions, [text for text in texts if text is not None])

    async def _fetch(self, client: httpx.AsyncClient, url: str) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s), client.stream("GET", url) as response:
                response.raise_for_status()
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > self._max_bytes:
                        log.warning("metrics exporter answered too much", url=url, max_bytes=self._max_bytes)
                        return None
                return body.decode("utf-8", errors="replace")
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("metrics exporter did not answer", url=url, error=type(error).__name__)
            return None
