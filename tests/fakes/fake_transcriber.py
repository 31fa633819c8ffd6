"""A transcriber without a model: scripted texts, a log of its batches, and a gate to hold its workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence

from serve_app.asr.ports import TranscriberInfo
from serve_app.core.jobs import (
    DecodeJob,
    DecodeResult,
    Role,
    Transcript,
)


def fake_info(name: str = "fake", languages: Sequence[str] = ("en", "de", "pt")) -> TranscriberInfo:
    return TranscriberInfo(
        model=name,
        engine="fake",
        device="cpu",
        compute_type="none",
        multilingual=len(languages) > 1,
        languages=frozenset(languages),
        path="",
    )


class FakeTranscriber:
    """Answers at once, or after `delay_s`, or when `gate` opens; `script` makes the text of a job."""

    def __init__(
        self,
        info: TranscriberInfo | None = None,
        *,
        delay_s: float = 0.0,
        gate: threading.Event | None = None,
        script: Callable[[DecodeJob], str] | None = None,
        key: Callable[[DecodeJob], Hashable] | None = None,
    ) -> None:
        self.info = info or fake_info()
        self.batches: list[tuple[Role, tuple[int, ...]]] = []
        self.begun = threading.Semaphore(0)
        self.max_concurrent = 0
        self._concurrent = 0
        self._lock = threading.Lock()
        self._delay_s = delay_s
        self._gate = gate
        self._script = script or (lambda job: f"job {job.job_id}")
        self._key = key or (lambda job: len(job.audio))

    def batch_key(self, job: DecodeJob) -> Hashable:
        return self._key(job)

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        with self._lock:
            self.batches.append((jobs[0].role, tuple(job.job_id for job in jobs)))
            self._concurrent += 1
            self.max_concurrent = max(self.max_concurrent, self._concurrent)
        self.begun.release()
        try:
            if self._gate is not None:
                assert self._gate.wait(10), "the gate was never opened"
            if self._delay_s:
                time.sleep(self._delay_s)
            return [self._transcript(job) for job in jobs]
        finally:
            with self._lock:
                self._concurrent -= 1

    def warm_up(self) -> None:
        """Nothing to do."""

    def _transcript(self, job: DecodeJob) -> Transcript:
        return Transcript(
            job_id=job.job_id,
            text=self._script(job),
            language=job.language or "en",
            language_probability=1.0,
            avg_logprob=-0.1,
            no_speech_prob=0.0,
            confidence=0.9,
            model=self.info.model,
        )
