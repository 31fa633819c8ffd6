"""The metric families in this process alone, on prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve_app.telemetry.families import Family, Kind
from serve_app.telemetry.metrics import Instrument


class LocalInstruments:
    """A factory with its own registry; `exposition()` is what an exporter would serve."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def instrument(self, family: Family) -> Instrument:
        described = (family.name, family.help, family.labels)
        match family.kind:
            case Kind.COUNTER:
                return _Local(Counter(*described, registry=self.registry), Counter.inc)
            case Kind.GAUGE:
                return _Local(Gauge(*described, registry=self.registry), Gauge.set)
            case Kind.HISTOGRAM:
                buckets = (*family.buckets, float("inf"))
                histogram = Histogram(*described, registry=self.registry, buckets=buckets)
                return _Local(histogram, Histogram.observe)

    def exposition(self) -> str:
        return generate_latest(self.registry).decode()

    def value(self, sample: str, labels: Mapping[str, str] | None = None) -> float | None:
        """The value of one sample, None where it was never recorded."""
        return self.registry.get_sample_value(sample, dict(labels or {}))


@dataclass(frozen=True, slots=True)
class _Local:
    metric: Any
    put: Callable[[Any, float], None]

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        self.put(self.metric.labels(**labels) if labels else self.metric, value)
