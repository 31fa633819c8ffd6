"""Real live sessions, observed as closely as the simulation needs: decode times beside the latencies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.clips import SessionPlan, start_delays_s
from benchmarks.live_load import SentClock, converse, decided_ms
from benchmarks.simulation.talk import Moment, Talk
from serve_app.clients.errors import SottoClientError
from serve_app.clients.live import LiveClient, SessionConfig
from serve_app.clients.messages import FinalTranscript, Message, PartialTranscript, VadEvent
from serve_app.scaling.costs import DecodeSample

CHUNK_MS = 100


@dataclass(slots=True)
class Observed:
    """One run: latencies in ms as the live benchmark counts them, and what the service said of each decode.

    `speech_start_ms`: from sending the chunk with which voice detection can say that somebody speaks to
    hearing it: everything but decoding. `rpc_ms`: a decode's time in the service less its queue and its work.
    Decodes have the seconds since the beginning of the run at which they were heard of.
    """

    final_ms: list[float] = field(default_factory=list)
    interim_ms: list[float] = field(default_factory=list)
    speech_start_ms: list[float] = field(default_factory=list)
    rpc_ms: list[float] = field(default_factory=list)
    finals: list[DecodeSample] = field(default_factory=list)
    interims: list[DecodeSample] = field(default_factory=list)
    finals_at_s: list[float] = field(default_factory=list)
    interims_at_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class _Reader:
    """What one session's messages say."""

    def __init__(
        self, seen: Observed, talk: Talk, sent: SentClock, longest_interim_ms: float, began_s: float
    ) -> None:
        self._seen, self.sent, self._longest_ms = seen, sent, longest_interim_ms
        self._began_s = began_s
        self._opened = {round(m.end_s * 1000): m.at_s * 1000 for m in talk.moments if m.kind is Moment.OPENED}
        self._pauses = {round(m.end_s * 1000) for m in talk.moments if m.kind is Moment.PAUSED}

    def note(self, message: Message, now_s: float) -> None:
        match message:
            case VadEvent(state="speech_start"):
                opened_ms = self._opened.get(round(message.t_ms))
                if opened_ms is not None:
                    self._seen.speech_start_ms.append(1000 * (now_s - self.sent.when(opened_ms)))
            case FinalTranscript():
                self._seen.final_ms.append(1000 * (now_s - self.sent.when(decided_ms(message))))
                audio_ms = message.end_ms - message.start_ms
                if self._decoded(self._seen.finals, audio_ms, message.timing):
                    self._seen.finals_at_s.append(now_s - self._began_s)
            case PartialTranscript():
                self._seen.interim_ms.append(1000 * (now_s - self.sent.when(message.end_ms)))
                if round(message.end_ms) not in self._pauses:  # else it was a final ahead of its time
                    audio_ms = min(self._longest_ms, message.end_ms - message.start_ms)
                    if self._decoded(self._seen.interims, audio_ms, message.timing):
                        self._seen.interims_at_s.append(now_s - self._began_s)

    def _decoded(self, samples: list[DecodeSample], audio_ms: float, timing: Any) -> bool:
        busy_ms = sum(
            float(timing.get(f"{part}_ms", 0)) for part in ("preprocess", "inference", "postprocess")
        )
        known = busy_ms > 0 and audio_ms > 0
        if known:
            samples.append(DecodeSample((audio_ms / 1000,), busy_ms / 1000))
            rest_ms = (
                float(timing.get("server_total_ms", 0)) - float(timing.get("queue_wait_ms", 0)) - busy_ms
            )
            self._seen.rpc_ms.append(max(0.0, rest_ms))
        return known


async def observe(
    url: str, plans: Sequence[SessionPlan], talks: Sequence[Talk], *, ramp_s: float, longest_interim_ms: float
) -> Observed:
    """Run a session per plan in real time, their starts spread over `ramp_s`."""
    seen = Observed()
    began_s = time.perf_counter()

    async def delayed(delay_s: float, plan: SessionPlan, talk: Talk) -> None:
        await asyncio.sleep(delay_s)
        try:
            reader = _Reader(seen, talk, SentClock(CHUNK_MS), longest_interim_ms, began_s)
            await _session(url, plan, reader)
        except (SottoClientError, TimeoutError) as error:
            seen.failures.append(f"{type(error).__name__}: {error}")

    delays = start_delays_s(len(plans), ramp_s)
    await asyncio.gather(*(delayed(*each) for each in zip(delays, plans, talks, strict=True)))
    return seen


async def _session(url: str, plan: SessionPlan, reader: _Reader) -> None:
    async with LiveClient(url) as client:
        await client.start(SessionConfig(lang_code="en"))
        await converse(
            client,
            plan.samples(),
            chunk_ms=CHUNK_MS,
            speed=1.0,
            sent=lambda chunk, now_s: reader.sent.sent(now_s),
            heard=reader.note,
        )
