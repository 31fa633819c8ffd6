"""What the conductor counts: the queue figures of the status page and the metric families."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve_app.capacity.ladder import Ladder
from serve_app.core.events import EndReason, Final, Partial
from serve_app.core.jobs import DecodeResult, Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.session.effects import Purpose
from serve_app.telemetry.metrics import Metrics, no_metrics

SMOOTHING = 0.1


@dataclass(slots=True)
class Counters:
    """Totals and exponential means since the start of this ingress replica."""

    metrics: Metrics = field(default_factory=no_metrics)
    total_requests: int = 0
    rejected_requests: int = 0
    num_retries: int = 0
    avg_partial_ms: float = 0.0
    avg_final_ms: float = 0.0
    num_unpublished_samples: int = 0
    """Audio of live sessions that the metrics have not been told of: a call for every frame would be dear."""

    def decoded(self, purpose: Purpose, result: DecodeResult, total_ms: float) -> None:
        self.total_requests += 1
        job_type = "interim" if purpose is Purpose.INTERIM else "final"
        self._processed(job_type, result)
        if not isinstance(result, Transcript):
            return
        if purpose is Purpose.INTERIM:
            self.avg_partial_ms = _smooth(self.avg_partial_ms, total_ms)
        else:
            self.avg_final_ms = _smooth(self.avg_final_ms, total_ms)

    def queued(self, num_finals: int, num_interims: int, ladder: Ladder) -> None:
        """Publish what is out, and the load: 0 normal, 1 high, 2 critical, with the rung of the ladder."""
        self.metrics.backpressure(("normal", "high", "critical").index(ladder.level), ladder.rung)
        self.metrics.queue_depth("final", num_finals)
        self.metrics.queue_depth("interim", num_interims)
        self._publish_audio()

    def recording_decoded(self, result: DecodeResult) -> None:
        """A window of an upload has come back."""
        self._processed("recording", result)

    def _processed(self, job_type: str, result: DecodeResult) -> None:
        if isinstance(result, Transcript):
            self.metrics.job_processed(job_type, "success", result.timing.inference_ms / 1000)
            if result.rejected or result.doubted:
                self.metrics.text_dropped(job_type, result.rejected or result.doubted)
        else:
            self.metrics.job_processed(job_type, "error")

    def listened(self, total_ms: float, num_windows: int) -> None:
        """The voices of some windows have come; a call's time is that of each of them."""
        for _ in range(num_windows):
            self.metrics.job_processed("speakers", "success", total_ms / 1000)

    def retried(self) -> None:
        self.num_retries += 1

    def text_sent(self, text: Partial | Final, latency_s: float) -> None:
        """`latency_s`: since the last audio that it needed had arrived."""
        self.metrics.text_sent("final" if isinstance(text, Final) else "interim", latency_s)

    def session_started(self, *, resumed: bool) -> None:
        self.metrics.session_started(resumed=resumed)

    def audio_arrived(self, num_samples: int) -> None:
        """A live session took audio."""
        self.num_unpublished_samples += num_samples

    def session_ended(self, reason: EndReason) -> None:
        self.metrics.session_ended(reason.value)
        self._publish_audio()

    def _publish_audio(self) -> None:
        if self.num_unpublished_samples:
            self.metrics.audio_received("session", self.num_unpublished_samples / SAMPLE_RATE_HZ)
            self.num_unpublished_samples = 0

    def refused(self, request_type: str, reason: str) -> None:
        """There was no room for a "session" or an "upload"."""
        self.rejected_requests += 1
        self.metrics.refused(request_type, reason)


def _smooth(mean: float, value: float) -> float:
    return value if mean == 0.0 else mean + SMOOTHING * (value - mean)
