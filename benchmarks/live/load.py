"""Live sessions in real time over real sockets, and what each of them saw."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from msgspec import UNSET

from benchmarks.clips import SessionPlan, start_delays_s
from benchmarks.service import CpuSnapshot
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from sotto_client.errors import SessionFailed, SottoClientError
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import (
    ErrorMessage,
    FinalTranscript,
    Message,
    PartialTranscript,
    SessionEnded,
    VadEvent,
)
from sotto_client.pacing import paced_chunks

LATE_CHUNK_MS = 100.0
END_TIMEOUT_S = 60.0
AnyMessage = TypeVar("AnyMessage", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True)
class Arrival(Generic[AnyMessage]):
    """A message and the moment at which it came."""

    at_s: float
    message: AnyMessage


@dataclass(slots=True)
class SessionLog:
    """What one live session sent and heard, and when. Moments are seconds of one monotonic clock; stream
    times count from the session's first sample.

    `sent_at_s`: when each chunk of `chunk_ms` went out, `speed` times as fast as it was spoken; `slips_ms`:
    how late that was. `failure` is None where the session went through to its end; `refused`: the server
    never takes such a session.
    """

    chunk_ms: int
    speed: float = 1.0
    sent_at_s: list[float] = field(default_factory=list)
    arrivals: list[Arrival[Message]] = field(default_factory=list)
    slips_ms: list[float] = field(default_factory=list)
    sent_samples: int = 0
    failure: str | None = None
    refused: bool = False

    def hear(self, message: Message, at_s: float) -> None:
        self.arrivals.append(Arrival(at_s, message))
        if isinstance(message, ErrorMessage):
            self.failure = f"{message.code}: {message.message}"
        elif isinstance(message, SessionEnded) and message.reason != "completed":
            self.failure = self.failure or f"the server ended the session: {message.reason}"

    @property
    def finals(self) -> list[FinalTranscript]:
        return [each.message for each in self.arrivals if isinstance(each.message, FinalTranscript)]

    def sent_s(self, stream_ms: float) -> float:
        """When the chunk with the sample just before `stream_ms` was sent; what lies behind the last chunk so
        far counts as in it."""
        return self.sent_at_s[min(self._num_chunks(stream_ms), len(self.sent_at_s)) - 1]

    def spoken_s(self, stream_ms: float) -> float:
        """When that sample was spoken: the time that its chunk takes to fill counts as lateness."""
        rest_ms = self._num_chunks(stream_ms) * self.chunk_ms - stream_ms
        return self.sent_s(stream_ms) - rest_ms / 1000 / self.speed

    def _num_chunks(self, stream_ms: float) -> int:
        return max(1, math.ceil(stream_ms / self.chunk_ms - 1e-6))


async def record_session(
    url: str, samples: Pcm16, config: SessionConfig, *, chunk_ms: int, speed: float = 1.0
) -> SessionLog:
    """Say all of it, end the session and hear it out. What goes wrong is in the log, not raised."""
    log = SessionLog(chunk_ms, speed)
    try:
        async with LiveClient(url) as client:
            try:
                await client.start(config)
            except SessionFailed as error:
                log.failure, log.refused = str(error), not error.retryable
            else:
                await _converse(client, samples, log)
    except (SottoClientError, TimeoutError) as error:
        log.failure = log.failure or f"{type(error).__name__}: {error}"
    return log


async def _converse(client: LiveClient, samples: Pcm16, log: SessionLog) -> None:
    async def read() -> None:
        async for message in client:
            log.hear(message, time.perf_counter())

    reader = asyncio.create_task(read())
    began_s = time.perf_counter()
    try:
        async with aclosing(paced_chunks(samples, chunk_ms=log.chunk_ms, speed=log.speed)) as chunks:
            async for chunk in chunks:
                log.sent_samples += len(chunk)
                log.sent_at_s.append(time.perf_counter())
                due_s = began_s + log.sent_samples / (SAMPLE_RATE_HZ * log.speed)
                log.slips_ms.append(max(0.0, 1000 * (log.sent_at_s[-1] - due_s)))
                await client.send_audio(chunk)
                if reader.done():
                    break
        if not reader.done():
            await client.end()
        async with asyncio.timeout(END_TIMEOUT_S):
            await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


@dataclass(slots=True)
class SessionResult:
    """What one session saw. Latencies in ms; `failure` is None where it went through to its end."""

    plan: SessionPlan
    final_latency_ms: list[float] = field(default_factory=list)
    final_after_speech_ms: list[float] = field(default_factory=list)
    interim_lag_ms: list[float] = field(default_factory=list)
    send_slip_ms: list[float] = field(default_factory=list)
    finals: list[str] = field(default_factory=list)
    sent_samples: int = 0
    audio_dropped_ms: float = 0.0
    failure: str | None = None

    @property
    def text(self) -> str:
        return " ".join(self.finals)


def decided_ms(final: FinalTranscript) -> float:
    """Where in the stream this final was decided on: at its endpoint, or where it was cut."""
    return final.end_ms if final.endpoint_ms is UNSET else final.endpoint_ms


async def run_session(
    url: str, plan: SessionPlan, *, chunk_ms: int, language: str, speed: float = 1.0
) -> SessionResult:
    """One session over `plan`. Failures of the connection or the session are in the result, not raised."""
    config = SessionConfig(lang_code=language)
    return result_of(plan, await record_session(url, plan.samples(), config, chunk_ms=chunk_ms, speed=speed))


def result_of(plan: SessionPlan, log: SessionLog) -> SessionResult:
    """The figures of a recorded session."""
    result = SessionResult(
        plan, send_slip_ms=log.slips_ms, sent_samples=log.sent_samples, failure=log.failure
    )
    speech_end_ms = 0.0
    for arrival in log.arrivals:
        match arrival.message:
            case VadEvent(state="speech_end") as event:
                speech_end_ms = event.t_ms
            case PartialTranscript() as partial:
                result.interim_lag_ms.append(1000 * (arrival.at_s - log.sent_s(partial.end_ms)))
            case FinalTranscript() as final:
                at_ms = decided_ms(final)
                spoken_ms = speech_end_ms if final.start_ms < speech_end_ms <= at_ms else final.end_ms
                result.final_latency_ms.append(1000 * (arrival.at_s - log.sent_s(at_ms)))
                result.final_after_speech_ms.append(1000 * (arrival.at_s - log.sent_s(spoken_ms)))
                result.finals.append(final.text)
            case SessionEnded() as ended:
                counted_samples = round(ended.total_audio_ms * SAMPLE_RATE_HZ / 1000)
                result.audio_dropped_ms = (log.sent_samples - counted_samples) * 1000 / SAMPLE_RATE_HZ
    return result


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Sessions side by side, and the machine while all of them ran (`window_s` between the snapshots)."""

    sessions: tuple[SessionResult, ...]
    before: CpuSnapshot
    after: CpuSnapshot
    window_s: float


async def run_load(
    url: str,
    plans: Sequence[SessionPlan],
    *,
    ramp_s: float,
    steady_until_s: float,
    chunk_ms: int,
    language: str,
    measure: Callable[[], CpuSnapshot],
) -> LoadResult:
    """Run a session per plan, their starts spread over `ramp_s`; CPU is counted from the end of the ramp to
    `steady_until_s`, while every session is talking."""

    async def delayed(delay_s: float, plan: SessionPlan) -> SessionResult:
        await asyncio.sleep(delay_s)
        return await run_session(url, plan, chunk_ms=chunk_ms, language=language)

    async def measured_at(moment_s: float) -> tuple[float, CpuSnapshot]:
        await asyncio.sleep(max(0.0, started + moment_s - time.perf_counter()))
        at_s = time.perf_counter()
        return at_s, await asyncio.to_thread(measure)

    started = time.perf_counter()
    delays = start_delays_s(len(plans), ramp_s)
    work: list[Awaitable[SessionResult]] = [delayed(*pair) for pair in zip(delays, plans, strict=True)]
    sessions = asyncio.gather(*work)
    from_s, before = await measured_at(ramp_s)
    to_s, after = await measured_at(max(steady_until_s, ramp_s + 1.0))
    return LoadResult(tuple(await sessions), before, after, to_s - from_s)


async def run_alone(
    url: str, plans: Sequence[SessionPlan], *, chunk_ms: int, language: str, speed: float
) -> dict[str, SessionResult]:
    """Each different plan once, one after the other, at `speed` times real time."""
    results: dict[str, SessionResult] = {}
    for plan in plans:
        if plan.name not in results:
            results[plan.name] = await run_session(
                url, plan, chunk_ms=chunk_ms, language=language, speed=speed
            )
    return results
