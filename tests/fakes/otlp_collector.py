"""What an OpenTelemetry collector was sent, span by span."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.privacy.collector import Collected, collecting


@dataclass
class Received:
    collected: Collected

    @property
    def address(self) -> str:
        return self.collected.address

    @property
    def requests(self) -> list[tuple[str, str | None, ExportTraceServiceRequest]]:
        """As (path, value of the header `api-key`, body)."""
        return [
            (path, key, ExportTraceServiceRequest.FromString(body))
            for path, key, body in tuple(self.collected.requests)
        ]

    @property
    def components(self) -> set[str]:
        """Which parts of the service sent something."""
        return {
            pair.value.string_value
            for _, _, request in self.requests
            for spans in request.resource_spans
            for pair in spans.resource.attributes
            if pair.key == "sotto.component"
        }

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for _, _, request in self.requests
            for spans in request.resource_spans
            for scope in spans.scope_spans
            for span in scope.spans
        ]

    @property
    def raw(self) -> bytes:
        return b"".join(body for _, _, body in tuple(self.collected.requests))


@contextlib.contextmanager
def otlp_collector() -> Iterator[Received]:
    """One on a loopback port."""
    with collecting() as collected:
        yield Received(collected)
