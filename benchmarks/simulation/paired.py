"""Is the simulation true? The same sessions, really and simulated, with the decode times of the real run.

What is taken over from the real run: decode times by role and length, calls' overhead, and how late the word
of a beginning utterance is (no decode is in that). What is compared is what none of it says: latencies of
finals and interims, which queues, priorities, speculation and the gate make of it.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks.clips import SessionPlan, start_delays_s
from benchmarks.live.load import SessionLog, decided_ms, record_session
from benchmarks.scoring import Percentiles
from benchmarks.service import ServiceUnderTest, say
from benchmarks.simulation.replicas import Slowness
from benchmarks.simulation.service import ServiceShape, SimulatedRun, simulate
from benchmarks.simulation.sessions import DoorShape
from benchmarks.simulation.talk import Moment, Talk
from serve_app.capacity.throughput import DecodeCost, DecodeSample
from serve_app.core.jobs import Role
from sotto_client.live import SessionConfig
from sotto_client.messages import FinalTranscript, PartialTranscript, Timing, VadEvent

CHUNK_MS = 100


@dataclass(slots=True)
class Observed:
    """One run: latencies in ms as the live benchmark counts them, and what the service said of each decode.

    `speech_start_ms`: from sending the chunk with which voice detection can find the start of speech to
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


async def observe(
    url: str, plans: Sequence[SessionPlan], talks: Sequence[Talk], *, ramp_s: float, longest_interim_ms: float
) -> Observed:
    """Run a session per plan in real time, their starts spread over `ramp_s`."""
    seen = Observed()
    began_s = time.perf_counter()

    async def delayed(delay_s: float, plan: SessionPlan) -> SessionLog:
        await asyncio.sleep(delay_s)
        return await record_session(url, plan.samples(), SessionConfig(lang_code="en"), chunk_ms=CHUNK_MS)

    delays = start_delays_s(len(plans), ramp_s)
    logs = await asyncio.gather(*(delayed(*each) for each in zip(delays, plans, strict=True)))
    for log, talk in zip(logs, talks, strict=True):
        if log.failure is not None:
            seen.failures.append(log.failure)
        _note(seen, log, talk, longest_interim_ms, began_s)
    return seen


def _note(seen: Observed, log: SessionLog, talk: Talk, longest_interim_ms: float, began_s: float) -> None:
    """What one session's messages say."""
    opened = {round(m.end_s * 1000): m.at_s * 1000 for m in talk.moments if m.kind is Moment.OPENED}
    pauses = {round(m.end_s * 1000) for m in talk.moments if m.kind is Moment.PAUSED}
    for arrival in log.arrivals:
        at_s = arrival.at_s
        match arrival.message:
            case VadEvent(state="speech_start") as event:
                if (opened_ms := opened.get(round(event.t_ms))) is not None:
                    seen.speech_start_ms.append(1000 * (at_s - log.sent_s(opened_ms)))
            case FinalTranscript() as final:
                seen.final_ms.append(1000 * (at_s - log.sent_s(decided_ms(final))))
                if _decoded(seen, seen.finals, final.end_ms - final.start_ms, final.timing):
                    seen.finals_at_s.append(at_s - began_s)
            case PartialTranscript() as partial:
                seen.interim_ms.append(1000 * (at_s - log.sent_s(partial.end_ms)))
                if round(partial.end_ms) not in pauses:  # else it was a final ahead of its time
                    audio_ms = min(longest_interim_ms, partial.end_ms - partial.start_ms)
                    if _decoded(seen, seen.interims, audio_ms, partial.timing):
                        seen.interims_at_s.append(at_s - began_s)


def _decoded(seen: Observed, samples: list[DecodeSample], audio_ms: float, timing: Timing) -> bool:
    busy_ms = timing.preprocess_ms + timing.inference_ms + timing.postprocess_ms
    known = busy_ms > 0 and audio_ms > 0
    if known:
        samples.append(DecodeSample((audio_ms / 1000,), busy_ms / 1000))
        seen.rpc_ms.append(max(0.0, timing.server_total_ms - timing.queue_wait_ms - busy_ms))
    return known


NUM_SEEDS = 8
BAR = 0.25
"""Of the measured p95, either way: the median over all pairs."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Latencies really and simulated."""

    measured: Percentiles
    simulated: Percentiles

    @property
    def ratio(self) -> float | None:
        """Simulated over measured p95."""
        if self.simulated.p95 is None or not self.measured.p95:
            return None
        return round(self.simulated.p95 / self.measured.p95, 3)


@dataclass(frozen=True, slots=True)
class Pair:
    """One real run and its simulation."""

    final: Compared
    interim: Compared

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "final_p95_ratio": self.final.ratio,
            "interim_p95_ratio": self.interim.ratio,
        }


def run_pairs(
    service: ServiceUnderTest,
    plans: Sequence[SessionPlan],
    talks: Sequence[Talk],
    shape: ServiceShape,
    *,
    num_pairs: int,
    ramp_s: float,
) -> list[Pair]:
    """One pair after the other. Raises `ValueError` where a run gave too little to compare."""
    pairs = []
    longest_ms = shape.conductor().max_interim_window_ms
    for number in range(1, num_pairs + 1):
        say(f"pair {number} of {num_pairs}: {len(plans)} sessions")
        seen = asyncio.run(observe(service.url, plans, talks, ramp_s=ramp_s, longest_interim_ms=longest_ms))
        if seen.failures:
            raise ValueError(f"a session failed: {seen.failures[0]}")
        pair = compare(seen, talks, shape, ramp_s=ramp_s)
        final = pair.final
        say(f"finals {final.measured} measured, {final.simulated} simulated, p95 ratio {final.ratio}")
        pairs.append(pair)
    return pairs


def compare(seen: Observed, talks: Sequence[Talk], shape: ServiceShape, *, ramp_s: float) -> Pair:
    """Simulate what was observed, with its own times."""
    interim = DecodeCost.fitted(seen.interims)
    # The size of the batches in which interims were timed is not known: it is part of their times.
    interim = DecodeCost(interim.fixed_s, interim.per_longest + interim.per_audio, 0.0, interim.spread)
    costs = {Role.FINAL: DecodeCost.fitted(seen.finals), Role.INTERIM: interim}
    fitted = replace(shape, costs=costs, rpc_s=median(seen.rpc_ms) / 1000, slowness=_slowness_of(seen, costs))
    fitted = replace(fitted, door=_door_of(seen, talks, fitted, ramp_s))
    finals: list[float] = []
    interims: list[float] = []
    for seed in range(NUM_SEEDS):
        simulated_run = _simulated(fitted, talks, ramp_s, seed)
        finals.extend(simulated_run.results.final_ms)
        interims.extend(simulated_run.results.interim_ms)
    return Pair(
        Compared(Percentiles.of(seen.final_ms), Percentiles.of(finals)),
        Compared(Percentiles.of(seen.interim_ms), Percentiles.of(interims)),
    )


def _slowness_of(seen: Observed, costs: Mapping[Role, DecodeCost]) -> Slowness:
    """A machine has slow moments (other work, its neighbours): a decode takes as much longer than its cost as
    the one of its role that was heard of next did."""
    known: dict[Role, tuple[list[float], list[float]]] = {}
    for role, samples, times in (
        (Role.FINAL, seen.finals, seen.finals_at_s),
        (Role.INTERIM, seen.interims, seen.interims_at_s),
    ):
        ratios = [sample.busy_s / costs[role].mean_s(sample.audio_s) for sample in samples]
        in_order = sorted(zip(times, ratios, strict=True))
        known[role] = ([at_s for at_s, _ in in_order], [ratio for _, ratio in in_order])

    def slowness(role: Role, now_s: float) -> float:
        times, ratios = known[role]
        return ratios[min(bisect(times, now_s), len(ratios) - 1)]

    return slowness


def _door_of(seen: Observed, talks: Sequence[Talk], shape: ServiceShape, ramp_s: float) -> DoorShape:
    """The way in and out such that beginnings of speech are as late as they were, quantile by quantile."""
    plain = replace(shape, door=replace(shape.door, door_s=0.0, jitter_s=(0.0,)))
    simulated = [
        ms
        for seed in range(NUM_SEEDS)
        for ms in _simulated(plain, talks, ramp_s, seed).results.speech_start_ms
    ]
    if not seen.speech_start_ms or not simulated:
        return shape.door
    shares = np.linspace(0.02, 0.98, 49)
    late = np.quantile(seen.speech_start_ms, shares) - np.quantile(simulated, shares)
    jitter_s = tuple(float(max(0.0, ms)) / 1000 for ms in late)
    return replace(shape.door, door_s=0.0, jitter_s=jitter_s)


def _simulated(shape: ServiceShape, talks: Sequence[Talk], ramp_s: float, seed: int) -> SimulatedRun:
    # Sessions really start a little off their time; and so a different piece of the tick each time.
    begins_s = [begin_s + 0.013 * seed for begin_s in start_delays_s(len(talks), ramp_s)]
    return simulate(shape, talks, begins_s, seed=seed)


def verdict(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The median ratios, and whether that of finals is within the bar."""
    finals = [pair.final.ratio for pair in pairs if pair.final.ratio is not None]
    interims = [pair.interim.ratio for pair in pairs if pair.interim.ratio is not None]
    final = round(median(finals), 3) if finals else None
    return {
        "pairs": [pair.to_json() for pair in pairs],
        "final_p95_ratio": final,
        "interim_p95_ratio": round(median(interims), 3) if interims else None,
        "within_bar": final is not None and abs(final - 1.0) <= BAR,
    }
