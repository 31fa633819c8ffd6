"""The families on Ray's own metrics, and where its exporters are; the only module here that knows Ray.

Ray is imported by the calls, not by the module. Its exporters put `ray_` before every name and add labels;
`exposition` takes both away. A histogram's `_sum` is Ray's estimate: it counts every observation as the
middle of its bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
