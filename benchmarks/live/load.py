"""Live sessions in real time over real sockets, and what each of them saw."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec import UNSET

from benchmarks.clips import SessionPlan, start_delays_s
from benchmarks.service import CpuSnapshot
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from sotto_client.errors import SottoClientError
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


class SentClock:
    """When each chunk went out, to say when a given moment of the stream was sent."""

    def __init__(self, chunk_ms: int) -> None:
        self._chunk_ms = chunk_ms
        self._sent_at_s: list[float] = []

    def sent(self, at_s: float) -> None:
        self._sent_at_s.append(at_s)

    def when(self, stream_ms: float) -> float:
        """The time at which the chunk with the sample just before `stream_ms` was sent; what lies behind the
        last chunk so far counts as in it."""
        index = math.ceil(stream_ms / self._chunk_ms - 1e-6) - 1
        return self._sent_at_s[min(max(index, 0), len(self._sent_at_s) - 1)]


def decided_ms(final: FinalTranscript) -> float:
    """Where in the stream this final was decided on: at its endpoint, or where it was cut."""
    return final.end_ms if final.endpoint_ms is UNSET else final.endpoint_ms


async def converse(
    client: LiveClient,
    samples: Pcm16,
    *,
    chunk_ms: int,
    speed: float,
    sent: Callable[[Pcm16, float], None],
    heard: Callable[[Message, float], None],
) -> None:
    """Say all of it, end the session and hear it out. `sent` is told of each chunk and the moment just before
    it goes out, `heard` of each message and when it came. Raises `SottoClientError`, `TimeoutError`."""

    async def read() -> None:
        async for message in client:
            heard(message, time.perf_counter())

    reader = asyncio.create_task(read())
    try:
        async with aclosing(paced_chunks(samples, chunk_ms=chunk_ms, speed=speed)) as chunks:
            async for chunk in chunks:
                sent(chunk, time.perf_counter())
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


async def run_session(
    url: str, plan: SessionPlan, *, chunk_ms: int, language: str, speed: float = 1.0
) -> SessionResult:
    """One session over `plan`. Failures of the connection or the session are in the result, not raised."""
    result = SessionResult(plan)
    try:
        async with LiveClient(url) as client:
            await client.start(SessionConfig(lang_code=language))
            await _converse(client, result, chunk_ms, speed)
    except (SottoClientError, TimeoutError) as error:
        result.failure = f"{type(error).__name__}: {error}"
    return result


async def _converse(client: LiveClient, result: SessionResult, chunk_ms: int, speed: float) -> None:
    clock = SentClock(chunk_ms)
    speech_end_ms = 0.0
    started = time.perf_counter()

    def sent(chunk: Pcm16, now: float) -> None:
        result.sent_samples += len(chunk)
        due = started + result.sent_samples / (SAMPLE_RATE_HZ * speed)
        result.send_slip_ms.append(max(0.0, 1000 * (now - due)))
        clock.sent(now)

    def heard(message: Message, now: float) -> None:
        nonlocal speech_end_ms
        if isinstance(message, VadEvent) and message.state == "speech_end":
            speech_end_ms = message.t_ms
        _note(message, now, speech_end_ms, result, clock)

    samples = result.plan.samples()
    await converse(client, samples, chunk_ms=chunk_ms, speed=speed, sent=sent, heard=heard)


def _note(message: Message, now: float, speech_end_ms: float, result: SessionResult, sent: SentClock) -> None:
    match message:
        case PartialTranscript():
            result.interim_lag_ms.append(1000 * (now - sent.when(message.end_ms)))
        case FinalTranscript():
            at_ms = decided_ms(message)
            spoken_ms = speech_end_ms if message.start_ms < speech_end_ms <= at_ms else message.end_ms
            result.final_latency_ms.append(1000 * (now - sent.when(at_ms)))
            result.final_after_speech_ms.append(1000 * (now - sent.when(spoken_ms)))
            result.finals.append(message.text)
        case ErrorMessage():
            result.failure = f"{message.code}: {message.message}"
        case SessionEnded():
            counted_samples = round(message.total_audio_ms * SAMPLE_RATE_HZ / 1000)
            result.audio_dropped_ms = (result.sent_samples - counted_samples) * 1000 / SAMPLE_RATE_HZ
            if message.reason != "completed":
                result.failure = result.failure or f"the server ended the session: {message.reason}"


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
