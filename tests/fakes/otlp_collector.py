"""An OpenTelemetry collector, OTLP over HTTP, that keeps what it is sent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Received:
    """`requests` as (path, value of the header `api-key`, body)."""

    address: str = ""
    requests: list[tuple[str, str | None, ExportTraceServiceRequest]] = field(default_factory=list)

    @property
    def components(self) -> set[str]:
        """Which parts of the service sent something."""
        return {
            pair.value.string_value
            for _, _, request in tuple(self.requests)
            for spans in request.resource_spans
            for pair in spans.resource.attributes
            if pair.key == "sotto.component"
        }

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for _, _, request in tuple(self.requests)
            for spans in request.resource_spans
            for scope in spans.scope_spans
            for span in scope.spans
        ]

    @property
    def raw(self) -> bytes:
        return b"".join(request.SerializeToString() for _, _, request in tuple(self.requests))


@contextlib.contextmanager
def otlp_collector() -> Iterator[Received]:
    """One on a loopback port."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = ExportTraceServiceRequest.FromString(body)
            received.requests.append((self.path, self.headers.get("api-key"), request))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
