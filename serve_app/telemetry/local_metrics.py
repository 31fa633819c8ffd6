"""The families in this process alone, on prometheus_client: for tests, and for runs without Ray."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve_app.telemetry.families import Family, Kind
from serve_app.telemetry.metrics import Instrument


class LocalInstruments:
    """A factory with its own registry; `exposition()` is what an exporter would serve."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def instrument(self, family: Family) -> Instrument:
        match family.kind:
            case Kind.COUNTER:
                return _LocalCounter(Counter(family.name, family.help, family.labels, registry=self.registry))
            case Kind.GAUGE:
                return _LocalGauge(Gauge(family.name, family.help, family.labels, registry=self.registry))
            case Kind.HISTOGRAM:
                buckets = (*family.buckets, float("inf"))
                return _LocalHistogram(
                    Histogram(
                        family.name, family.help, family.labels, registry=self.registry, buckets=buckets
                    )
                )

    def exposition(self) -> str:
        return generate_latest(self.registry).decode()

    def value(self, sample: str, labels: Mapping[str, str] | None = None) -> float | None:
        """The value of one sample, None where it was never recorded."""
        return self.registry.get_sample_value(sample, dict(labels or {}))


class _LocalCounter:
    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        (self._counter.labels(**labels) if labels else self._counter).inc(value)


class _LocalGauge:
    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        (self._gauge.labels(**labels) if labels else self._gauge).set(value)


class _LocalHistogram:
    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        (self._histogram.labels(**labels) if labels else self._histogram).observe(value)
