"""OpenTelemetry spans from socket to batch: ids, sizes and times, never words.

    request            a request or a WebSocket, below the client's own span where it sent a `traceparent`
      session          a live session
        utterance      from the start of speech to its final
          decode       one call for a window of it, as the ingress sees it
            recogniser the same in the recogniser's replica, which was told the parent in `DecodeJob.trace`
              queue    waiting for a worker
              batch    on the worker; `sotto.batch_id` is that of all jobs of the batch
                inference
      recording        an upload; its windows are `recogniser` spans
    voice              one call of the voice detector, linked to the sessions in it

Where traces are off there is no `Traces` at all, and OpenTelemetry is never imported. Exceptions are not
recorded on spans: their texts may quote what a client sent.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from serve_app.core.events import Event, Final, SessionEnded, SpeechStarted
from serve_app.core.jobs import DecodeJob, DecodeResult, Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ
from sotto_client.addresses import is_loopback

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

TRACES_PATH = "/v1/traces"
EXPORT_INTERVAL_MS = 1_000
EXPORT_TIMEOUT_S = 5
MAX_WAITING_SPANS = 8_192
"""More are dropped: a collector that is away must not fill the memory."""
MAX_LINKS = 64
MAX_UTTERANCES = 16
"""Of a session at once: noises without a final stay until the next one."""

Attribute = str | int | float | bool
Attributes = Mapping[str, Attribute]


class Traces:
    """The spans of one process. Cheap where a trace is not sampled; never raises, never waits."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        component: str,
        sample_ratio: float = 1.0,
        at_once: bool = False,
        shown: Callable[[str], str] = str,
    ) -> None:
        """`component`: which part of the service this process is. `at_once`: export each span as it ends.
        `shown`: what stands in spans for ids that clients choose."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.shown = shown
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=Resource.create({"service.name": "sotto", "sotto.component": component}),
        )
        self._provider.add_span_processor(
            SimpleSpanProcessor(exporter)
            if at_once
            else BatchSpanProcessor(
                exporter, max_queue_size=MAX_WAITING_SPANS, schedule_delay_millis=EXPORT_INTERVAL_MS
            )
        )
        self._tracer = self._provider.get_tracer("sotto")
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what waits. Blocking."""
        self._provider.shutdown()

    @contextmanager
    def request(self, name: str, traceparent: str, attributes: Attributes) -> Iterator[Span]:
        """The span of a request, below `traceparent` if that is one; what happens within belongs to it."""
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            name,
            self._context(traceparent),
            SpanKind.SERVER,
            dict(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    @contextmanager
    def recording(self, audio_s: float) -> Iterator[str]:
        """The span of an upload's decoding, below the current one; its `traceparent` for the jobs."""
        with self._tracer.start_as_current_span(
            "recording",
            attributes={"sotto.audio_s": round(audio_s, 3)},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield traceparent_of(span)

    def session(self, session_id: str, *, resumed: bool) -> SessionTrace | None:
        """The trace of a live session below the current span; None where it is not sampled."""
        span = self._tracer.start_span(
            "session", attributes={"sotto.session_id": self.shown(session_id), "sotto.resumed": resumed}
        )
        return SessionTrace(self, span) if span.is_recording() else None

    def voice_called(self, began_ns: int, sessions: Sequence[SessionTrace | None]) -> None:
        """A call of the voice detector for one window or more of each session, which ends now."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Link

        traced = [session for session in sessions if session is not None]
        if traced:
            links = [Link(session.span.get_span_context()) for session in traced[:MAX_LINKS]]
            attributes = {"sotto.num_sessions": len(sessions)}
            self._tracer.start_span(
                "voice", Context(), attributes=attributes, links=links, start_time=began_ns
            ).end()

    def decoded(self, job: DecodeJob, result: DecodeResult) -> None:
        """The recogniser's spans of a job that was answered just now."""
        if not job.trace:
            return
        timing = result.timing if isinstance(result, Transcript) else None
        now_ns = time.time_ns()
        attributes: dict[str, Attribute] = {
            "sotto.job_id": job.job_id,
            "sotto.role": job.role.value,
            "sotto.audio_s": round(job.audio_s, 3),
        }
        if timing is None:
            span = self._tracer.start_span("recogniser", self._context(job.trace), attributes=attributes)
            fail(span)
            span.end(now_ns)
            return
        batch_ns = _ns(timing.preprocess_ms + timing.inference_ms + timing.postprocess_ms)
        begun_ns = now_ns - batch_ns
        queued_ns = begun_ns - _ns(timing.queue_wait_ms)
        inferred_ns = now_ns - _ns(timing.postprocess_ms)
        span = self._tracer.start_span(
            "recogniser", self._context(job.trace), attributes=attributes, start_time=queued_ns
        )
        self._child(span, "queue", queued_ns, begun_ns)
        batch = {"sotto.batch_size": timing.batch_size, "sotto.batch_id": timing.batch_id}
        whole = self._child(span, "batch", begun_ns, now_ns, batch)
        self._child(whole, "inference", inferred_ns - _ns(timing.inference_ms), inferred_ns)
        span.end(now_ns)

    def start(self, name: str, parent: Span, attributes: Attributes) -> Span:
        """A span below `parent`; the caller ends it."""
        from opentelemetry.trace import set_span_in_context

        return self._tracer.start_span(name, set_span_in_context(parent), attributes=dict(attributes))

    def _child(
        self, parent: Span, name: str, began_ns: int, ended_ns: int, attributes: Attributes | None = None
    ) -> Span:
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(parent)
        span = self._tracer.start_span(name, context, attributes=dict(attributes or {}), start_time=began_ns)
        span.end(ended_ns)
        return span

    def _context(self, traceparent: str) -> Context:
        from opentelemetry.context import Context

        return self._propagator.extract({"traceparent": traceparent}, Context())


class SessionTrace:
    """One live session's spans: the session, its utterances, and what is decoded of them."""

    def __init__(self, traces: Traces, span: Span) -> None:
        self.span = span
        self._traces = traces
        # By their first samples, oldest first: the next one may begin before the final of the last has come.
        self._utterances: list[tuple[int, Span]] = []

    def told(self, event: Event) -> None:
        """What the session told its client."""
        match event:
            case SpeechStarted(at_sample):
                self._begin(at_sample)
            case Final():
                self._finish(event)
            case SessionEnded(reason, total_samples, num_finals):
                self._end_utterances(math.inf)
                self.span.set_attributes(
                    {
                        "sotto.reason": reason.value,
                        "sotto.num_samples": total_samples,
                        "sotto.num_finals": num_finals,
                    }
                )
                self.span.end()

    def decode(self, purpose: str, start_sample: int, end_sample: int) -> DecodeTrace:
        """A window of the session is sent to a recogniser."""
        within = [span for first_sample, span in self._utterances if first_sample < end_sample]
        parent = within[-1] if within else self._begin(start_sample)
        audio_s = (end_sample - start_sample) / SAMPLE_RATE_HZ
        attributes: dict[str, Attribute] = {"sotto.purpose": purpose, "sotto.audio_s": round(audio_s, 3)}
        return DecodeTrace(self._traces.start("decode", parent, attributes))

    def _begin(self, first_sample: int) -> Span:
        if len(self._utterances) >= MAX_UTTERANCES:
            self._utterances.pop(0)[1].end()
        span = self._traces.start("utterance", self.span, {})
        self._utterances.append((first_sample, span))
        return span

    def _finish(self, final: Final) -> None:
        own = range(final.start_sample, max(final.end_sample, final.start_sample + 1))
        within = [span for first_sample, span in self._utterances if first_sample in own]
        span = within[0] if within else self._begin(final.start_sample)
        span.set_attributes(
            {
                "sotto.utterance_id": final.utterance_id,
                "sotto.num_samples": final.end_sample - final.start_sample,
                "sotto.num_words": len(final.words),
            }
        )
        self._end_utterances(own.stop)

    def _end_utterances(self, before_sample: float) -> None:
        """Those that began earlier: also such as were no speech after all, and have no final."""
        for first_sample, span in self._utterances:
            if first_sample < before_sample:
                span.end()
        self._utterances = [one for one in self._utterances if one[0] >= before_sample]


class DecodeTrace:
    """One call to a recogniser; `parent` goes with its job."""

    __slots__ = ("_span", "parent")

    def __init__(self, span: Span) -> None:
        self._span = span
        self.parent = traceparent_of(span)

    def answered(self, result: DecodeResult) -> None:
        if not isinstance(result, Transcript):
            fail(self._span)
        self._span.end()


def traced(
    traces: Traces | None, jobs: Sequence[DecodeJob], results: AsyncGenerator[DecodeResult, None]
) -> AsyncGenerator[DecodeResult, None]:
    """`results` of `jobs`, with their spans."""
    return results if traces is None else _traced(traces, jobs, results)


async def _traced(
    traces: Traces, jobs: Sequence[DecodeJob], results: AsyncGenerator[DecodeResult, None]
) -> AsyncGenerator[DecodeResult, None]:
    by_id = {job.job_id: job for job in jobs if job.trace}
    async with aclosing(results):
        async for result in results:
            if (job := by_id.get(result.job_id)) is not None:
                traces.decoded(job, result)
            yield result


def open_traces(
    endpoint: str | None,
    *,
    headers: str = "",
    sample_ratio: float = 1.0,
    component: str,
    shown: Callable[[str], str] = str,
) -> Traces | None:
    """Spans to the collector at `endpoint` (`http://host:4318`, OTLP over HTTP); None: no traces.

    `headers`: `name=value` separated by commas, as `OTEL_EXPORTER_OTLP_HEADERS` has them. `shown`: as in
    `Traces`.
    """
    if not endpoint:
        return None
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.util.re import parse_env_headers

    url = endpoint if endpoint.endswith(TRACES_PATH) else endpoint.rstrip("/") + TRACES_PATH
    parsed = parse_env_headers(headers, liberal=True) if headers else None
    # Of a collector that is away one line a batch is enough, not one for each try.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    session = requests.Session()
    session.trust_env = not is_loopback(url)  # a proxy has no business on the way to this machine
    exporter = OTLPSpanExporter(endpoint=url, headers=parsed, timeout=EXPORT_TIMEOUT_S, session=session)
    return Traces(exporter, component=component, sample_ratio=sample_ratio, shown=shown)


def fail(span: Span, *, error_type: str = "") -> None:
    """Mark a span as failed; the kind of error, never its text."""
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR)
    if error_type:
        span.set_attribute("error.type", error_type)


def traceparent_of(span: Span) -> str:
    """W3C `traceparent` of a sampled span; "" of any other."""
    context: Any = span.get_span_context()
    if not span.is_recording():
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def _ns(ms: float) -> int:
    return int(ms * 1_000_000)
