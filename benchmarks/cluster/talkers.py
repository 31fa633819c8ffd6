"""People who talk while the cluster changes under them: live sessions that resume, and what each came to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from benchmarks.clips import SessionPlan, start_delays_s
from benchmarks.live.load import SessionLog, decided_ms
from serve_app.core.samples import SAMPLE_RATE_HZ
from sotto_client.errors import SottoClientError
from sotto_client.live import SessionConfig
from sotto_client.messages import ErrorMessage, FinalTranscript, Message, SessionEnded, SessionStarted
from sotto_client.pacing import paced_chunks
from sotto_client.resuming import ResumingClient

CHUNK_MS = 100
CHUNK_SAMPLES = CHUNK_MS * SAMPLE_RATE_HZ // 1000
END_TIMEOUT_S = 180.0


@dataclass(slots=True)
class Talk:
    """One session: `finals` as segment id, start ms, end ms, text; `latencies_ms` as the moment of each final
    (`time.perf_counter`) and ms from sending the chunk that decided it; `failure` None if it ended well."""

    plan: SessionPlan
    finals: list[tuple[str, float, float, str]] = field(default_factory=list)
    latencies_ms: list[tuple[float, float]] = field(default_factory=list)
    connected: bool = False
    num_resumed: int = 0
    num_begun_anew: int = 0
    errors: list[str] = field(default_factory=list)
    sent_samples: int = 0
    counted_ms: float | None = None
    failure: str | None = None

    @property
    def words(self) -> list[str]:
        return [word for final in self.finals for word in final[3].split()]

    @property
    def unaccounted_ms(self) -> float:
        """Sent less what the server counted."""
        return self.sent_samples * 1000 / SAMPLE_RATE_HZ - (self.counted_ms or 0.0)


async def talk(
    url: str,
    plan: SessionPlan,
    *,
    speed: float,
    until: asyncio.Event | None,
) -> Talk:
    """Say `plan` in real time, resumed after lost connections; failures are in the result, not raised.

    With `until`, the last quarter of the audio waits for it.
    """
    result = Talk(plan)
    try:
        async with ResumingClient(url, SessionConfig(lang_code="en"), open_timeout_s=5.0) as client:
            sent = SessionLog(CHUNK_MS)
            sender = asyncio.create_task(_send(client, result, sent, speed, until))
            try:
                async with asyncio.timeout(len(plan.samples()) / SAMPLE_RATE_HZ / speed + END_TIMEOUT_S):
                    async for message in client:
                        _note(result, message, sent)
                    await sender
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
    except (SottoClientError, TimeoutError) as error:
        result.failure = f"{type(error).__name__}: {error}"
    return result


async def _send(
    client: ResumingClient, result: Talk, sent: SessionLog, speed: float, until: asyncio.Event | None
) -> None:
    samples = result.plan.samples()
    pause_at = len(samples) * 3 // 4 // CHUNK_SAMPLES * CHUNK_SAMPLES if until is not None else len(samples)
    for part in (samples[:pause_at], samples[pause_at:]):
        async with aclosing(paced_chunks(part, chunk_ms=CHUNK_MS, speed=speed)) as chunks:
            async for chunk in chunks:
                sent.sent_at_s.append(time.perf_counter())
                result.sent_samples += len(chunk)
                await client.send_audio(chunk)
        if until is not None:
            await until.wait()
    await client.end()


def _note(result: Talk, message: Message, sent: SessionLog) -> None:
    now_s = time.perf_counter()
    match message:
        case SessionStarted():
            if result.connected:
                result.num_resumed += bool(message.resumed)
                result.num_begun_anew += not message.resumed
            result.connected = True
        case FinalTranscript():
            result.finals.append((message.segment_id, message.start_ms, message.end_ms, message.text))
            result.latencies_ms.append((now_s, 1000 * (now_s - sent.sent_s(decided_ms(message)))))
        case ErrorMessage():
            result.errors.append(message.code)
        case SessionEnded():
            result.counted_ms = message.total_audio_ms
            if message.reason != "completed":
                result.failure = f"the server ended the session: {message.reason}"


async def talk_together(
    url: str,
    plans: Sequence[SessionPlan],
    *,
    speed: float = 1.0,
    ramp_s: float = 2.0,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
    outlast: bool = False,
) -> list[Talk]:
    """Every plan at once; `meanwhile` runs beside them, and its error ends them all. With `outlast` no
    session ends before it is over."""
    until = asyncio.Event() if outlast else None

    async def later(delay_s: float, plan: SessionPlan) -> Talk:
        await asyncio.sleep(delay_s)
        return await talk(url, plan, speed=speed, until=until)

    async with asyncio.TaskGroup() as group:
        delays_s = start_delays_s(len(plans), ramp_s)
        tasks = [
            group.create_task(later(delay_s, plan)) for delay_s, plan in zip(delays_s, plans, strict=True)
        ]
        if meanwhile is not None:
            await meanwhile()
        if until is not None:
            until.set()
    return [task.result() for task in tasks]


async def undisturbed(url: str, plans: Sequence[SessionPlan], *, speed: float = 2.0) -> dict[str, Talk]:
    """Each different plan, three at a time, with nothing going on: what the others are held to.

    Raises `RuntimeError` where one of them does not go through.
    """
    distinct = list({plan.name: plan for plan in plans}.values())
    found: dict[str, Talk] = {}
    for start in range(0, len(distinct), 3):
        for result in await talk_together(url, distinct[start : start + 3], speed=speed):
            if result.failure or result.num_resumed:
                raise RuntimeError(f"{result.plan.name} was disturbed: {result.failure or 'resumed'}")
            found[result.plan.name] = result
    return found


def compare(talks: Sequence[Talk], alone: Mapping[str, Talk]) -> dict[str, Any]:
    """Counted against what the same plans gave undisturbed: sessions of the same text, ids and times, words
    lost and words too many, audio not accounted for."""
    lost = added = same = 0
    for result in talks:
        reference = alone[result.plan.name]
        same += result.finals == reference.finals
        less, more = word_changes(reference.words, result.words)
        lost, added = lost + less, added + more
    return {
        "sessions": len(talks),
        "sessions_failed": sum(result.failure is not None for result in talks),
        "failures": sorted({result.failure for result in talks if result.failure}),
        "sessions_identical": same,
        "words": sum(len(result.words) for result in talks),
        "words_lost": lost,
        "words_too_many": added,
        "audio_unaccounted_ms": round(sum(abs(result.unaccounted_ms) for result in talks), 1),
        "sessions_resumed": sum(result.num_resumed > 0 for result in talks),
        "resumes": sum(result.num_resumed for result in talks),
        "begun_anew": sum(result.num_begun_anew for result in talks),
        "errors": sorted({code for result in talks for code in result.errors}),
    }


def word_changes(expected: Sequence[str], said: Sequence[str]) -> tuple[int, int]:
    """Words of `expected` that are missing, and words that are not in it; a changed word counts as both."""
    lost = added = 0
    for tag, first, last, start, end in SequenceMatcher(None, expected, said, autojunk=False).get_opcodes():
        if tag != "equal":
            lost, added = lost + last - first, added + end - start
    return lost, added
