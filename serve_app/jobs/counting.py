"""What the queue reports to metrics: figures and states, nothing of a job's content."""

from __future__ import annotations

from typing import Protocol


class JobCounts(Protocol):
    """`telemetry.metrics.Metrics` has these; cheap, and they never raise."""

    def jobs_open(self, num_queued: int, num_running: int) -> None:
        """Of the whole queue, however many processes work on it."""

    def job_begun(self, waited_s: float) -> None:
        """The first attempt at a job, so long after it was handed in."""

    def job_ended(self, state: str) -> None:
        """`done`, `failed` or `cancelled`."""

    def webhook_tried(self, outcome: str) -> None:
        """`delivered`, `retried` (it will be) or `failed` for good."""


class Uncounted:
    """A `JobCounts` for where nothing is counted."""

    def jobs_open(self, num_queued: int, num_running: int) -> None:
        return None

    def job_begun(self, waited_s: float) -> None:
        return None

    def job_ended(self, state: str) -> None:
        return None

    def webhook_tried(self, outcome: str) -> None:
        return None
