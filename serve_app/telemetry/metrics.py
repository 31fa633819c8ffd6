"""What the service counts, as calls that say what happened; the factory decides where the figures go.

Ray's metrics in a replica (`cluster`), or nowhere; tests have prometheus_client's registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from serve_app.telemetry import families
from serve_app.telemetry.families import Family


class Instrument(Protocol):
    """One family where values go: a counter adds, a gauge sets, a histogram observes."""

    def record(self, value: float, labels: Mapping[str, str]) -> None: ...


class InstrumentFactory(Protocol):
    def instrument(self, family: Family) -> Instrument: ...


class Metrics:
    """What doors, conductor and recognisers report, on the instruments of a factory. Cheap; never raises."""

    def __init__(self, factory: InstrumentFactory) -> None:
        self._connections = factory.instrument(families.ACTIVE_CONNECTIONS)
        self._queue_depth = factory.instrument(families.QUEUE_DEPTH)
        self._jobs = factory.instrument(families.JOBS_PROCESSED)
        self._decode_s = factory.instrument(families.DECODE_DURATION)
        self._text_latency_s = factory.instrument(families.TEXT_LATENCY)
        self._sessions_started = factory.instrument(families.SESSIONS_STARTED)
        self._audit_failures = factory.instrument(families.AUDIT_FAILURES)
        self._sessions_ended = factory.instrument(families.SESSIONS_ENDED)
        self._texts_sent = factory.instrument(families.TEXTS_SENT)
        self._audio_received = factory.instrument(families.AUDIO_RECEIVED)
        self._refused = factory.instrument(families.REFUSED)
        self._failures = factory.instrument(families.FAILURES)
        self._last_failure = factory.instrument(families.LAST_FAILURE)
        self._texts_dropped = factory.instrument(families.TEXTS_DROPPED)
        self._backpressure = factory.instrument(families.BACKPRESSURE_LEVEL)
        self._backpressure_rung = factory.instrument(families.BACKPRESSURE_RUNG)
        self._recording_jobs = factory.instrument(families.RECORDING_JOBS)
        self._recording_jobs_ended = factory.instrument(families.RECORDING_JOBS_ENDED)
        self._recording_job_wait_s = factory.instrument(families.RECORDING_JOB_WAIT)
        self._webhooks = factory.instrument(families.WEBHOOKS)
        self._requests = factory.instrument(families.REQUESTS)
        self._transcribe_s = factory.instrument(families.TRANSCRIPTION_DURATION)
        self._audio_s = factory.instrument(families.AUDIO_DURATION)
        self._real_time_factor = factory.instrument(families.REAL_TIME_FACTOR)
        self._cache_hits = factory.instrument(families.CACHE_HITS)
        self._cache_misses = factory.instrument(families.CACHE_MISSES)
        self._cache_lost = factory.instrument(families.CACHE_LOST)
        self._active_requests = factory.instrument(families.ACTIVE_REQUESTS)

    def connections(self, num_active: int) -> None:
        """WebSocket connections open in this process."""
        self._connections.record(num_active, {})

    def queue_depth(self, queue_type: str, depth: int) -> None:
        """Jobs handed out and not answered; `queue_type` is "final" or "interim"."""
        self._queue_depth.record(depth, {"queue_type": queue_type})

    def job_processed(self, job_type: str, status: str, decode_s: float | None = None) -> None:
        """One decode: "final", "interim" or "recording", "success" or "error"; its inference time where there
        is one."""
        self._jobs.record(1, {"job_type": job_type, "status": status})
        if decode_s is not None:
            self._decode_s.record(decode_s, {"job_type": job_type})

    def text_sent(self, job_type: str, latency_s: float) -> None:
        """A live text, "final" or "interim", this long after the last audio that it needed had arrived."""
        self._text_latency_s.record(latency_s, {"job_type": job_type})

    def session_started(self, *, resumed: bool) -> None:
        """A live session was taken on."""
        self._sessions_started.record(1, {"resumed": "true" if resumed else "false"})

    def session_ended(self, reason: str) -> None:
        """A live session ended: "completed", "cancelled", "error" or "timeout"."""
        self._sessions_ended.record(1, {"reason": reason})

    def text_written(self, job_type: str) -> None:
        """A live text, "final" or "interim", was written to its client: what was replaced unread is not."""
        self._texts_sent.record(1, {"job_type": job_type})

    def audio_received(self, request_type: str, audio_s: float) -> None:
        """So much audio of "session" or "upload" was taken."""
        self._audio_received.record(audio_s, {"request_type": request_type})

    def refused(self, request_type: str, reason: str) -> None:
        """There was no room for a "session" or an "upload": "max_sessions", "max_uploads", "queue_full" or
        "queue_congestion"; or a key or an address has reached its "limit", of "request" and "audio" too."""
        self._refused.record(1, {"request_type": request_type, "reason": reason})

    def failed(self, door: str, status: str, reason: str, at_s: float) -> None:
        """A request or a connection that met an error has ended: its door's template, the status or close
        code, the error's code, and Unix time."""
        labels = {"door": door, "status": status, "reason": reason}
        self._failures.record(1, labels)
        self._last_failure.record(at_s, labels)

    def audit_failed(self) -> None:
        """The audit log could not be written; its lines wait."""
        self._audit_failures.record(1, {})

    def text_dropped(self, job_type: str, reason: str) -> None:
        """A guard took a decode's text away."""
        self._texts_dropped.record(1, {"job_type": job_type, "reason": reason})

    def backpressure(self, level: int, rung: int) -> None:
        """0 normal, 1 high, 2 critical; the rung of the ladder (`capacity.ladder.Rung`)."""
        self._backpressure.record(level, {})
        self._backpressure_rung.record(rung, {})

    def jobs_open(self, num_queued: int, num_running: int) -> None:
        """Recordings in the queue; every replica that works on it says the same."""
        self._recording_jobs.record(num_queued, {"state": "queued"})
        self._recording_jobs.record(num_running, {"state": "running"})

    def job_begun(self, waited_s: float) -> None:
        """A queued recording's first attempt."""
        self._recording_job_wait_s.record(waited_s, {})

    def job_ended(self, state: str) -> None:
        """A queued recording is "done", "failed" or "cancelled"."""
        self._recording_jobs_ended.record(1, {"state": state})

    def webhook_tried(self, outcome: str) -> None:
        """A webhook was "delivered", will be "retried", or has "failed" for good."""
        self._webhooks.record(1, {"outcome": outcome})

    def active_requests(self, num_active: int) -> None:
        """Uploads being worked on in this process."""
        self._active_requests.record(num_active, {})

    def request_failed(self) -> None:
        """An upload was answered with an error."""
        self._requests.record(1, {"status": "error", "cached": "false"})

    def request_done(self, transcribe_s: float, audio_s: float, *, cached: bool = False) -> None:
        """An upload was answered with text."""
        self._requests.record(1, {"status": "success", "cached": "true" if cached else "false"})
        self._transcribe_s.record(transcribe_s, {})
        self._audio_s.record(audio_s, {})
        self.audio_received("upload", audio_s)
        if audio_s > 0:
            self._real_time_factor.record(transcribe_s / audio_s, {})

    def cache_lookup(self, *, hit: bool) -> None:
        """The result cache was asked."""
        (self._cache_hits if hit else self._cache_misses).record(1, {})

    def cache_lost(self) -> None:
        """The result cache did not answer: an upload went on without it."""
        self._cache_lost.record(1, {})


class _Nowhere:
    def instrument(self, family: Family) -> Instrument:
        return self

    def record(self, value: float, labels: Mapping[str, str]) -> None:
        return None


def no_metrics() -> Metrics:
    """For tests and tools that count nothing."""
    return Metrics(_Nowhere())
