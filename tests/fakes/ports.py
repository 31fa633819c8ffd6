"""The two model deployments as the conductor sees them, with scripted speed and deaths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from fakes.talk import FakeDetector, hear
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    DecodeTiming,
    ModelInfo,
    Role,
    Transcript,
)
from serve_app.service.ports import ReplicaLost
from serve_app.vad.detector import VadRequest, VadResult


class FakeVoice:
    """Answers at once; dies on the calls whose numbers are in `dies_on`."""

    def __init__(self, dies_on: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.detector = FakeDetector()
        self.dies_on = dies_on
        self.batch_sizes: list[int] = []

    async def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        self.batch_sizes.append(len(requests))
        await asyncio.sleep(0)
        if len(self.batch_sizes) in self.dies_on:
            raise ReplicaLost("voice died")
        return self.detector.detect(requests)


class FakeRecogniser:
    """Two workers' worth of decoding: `delay_s(job)` long each; dies in the calls numbered in `dies_on`,
    after it has answered the first job. `called` says that it was asked; it answers nothing while `go_on` is
    not set."""

    def __init__(
        self,
        delay_s: Callable[[DecodeJob], float] = lambda job: 0.0,
        dies_on: set[int] = frozenset(),  # type: ignore[assignment]
        fails: Callable[[DecodeJob], bool] = lambda job: False,
        languages: Callable[[DecodeJob], str] = lambda job: "en",
    ) -> None:
        self.delay_s, self.dies_on, self.fails, self.languages = delay_s, dies_on, fails, languages
        self.busy_times = 0
        self.called, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()
        self.calls: list[list[DecodeJob]] = []

    @property
    def jobs(self) -> list[DecodeJob]:
        return [job for call in self.calls for job in call]

    def of(self, role: Role) -> list[DecodeJob]:
        return [job for job in self.jobs if job.role is role]

    async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncGenerator[DecodeResult, None]:
        self.calls.append(list(jobs))
        self.called.set()
        await self.go_on.wait()
        number = len(self.calls)
        for index, job in enumerate(sorted(jobs, key=lambda job: -job.job_id)):
            if number in self.dies_on and index == min(1, len(jobs) - 1):
                raise ReplicaLost("recogniser died")
            await asyncio.sleep(self.delay_s(job))
            yield self._answer(job)

    def _answer(self, job: DecodeJob) -> DecodeResult:
        if self.busy_times > 0 and job.role is not Role.INTERIM:
            self.busy_times -= 1
            return DecodeFailure(job.job_id, "the queue is full", retryable=True)
        if self.fails(job):
            return DecodeFailure(job.job_id, "cannot decode this one")
        words = hear(job.audio)
        return Transcript(
            job_id=job.job_id,
            text="".join(word.word for word in words).strip(),
            language=job.language or self.languages(job),
            language_probability=0.9,
            avg_logprob=-0.2,
            no_speech_prob=0.0,
            confidence=0.9,
            model="fake",
            words=tuple(words) if job.word_timestamps else (),
            timing=DecodeTiming(inference_ms=1000 * self.delay_s(job)),
        )

    async def describe(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo("fake", "final", "fake", "cpu", "int8", True, "", ("en", "de")),)
