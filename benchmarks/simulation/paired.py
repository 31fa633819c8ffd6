"""Is the simulation true? The same sessions, really and simulated, with the decode times of the real run.

What is taken over from the real run: decode times by role and length, calls' overhead, and how late the word
of a beginning utterance is (no decode is in that). What is compared is what none of it says: latencies of
finals and interims, which queues, priorities, speculation and the gate make of it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks.clips import SessionPlan, start_delays_s
from benchmarks.scoring import Percentiles
from benchmarks.service import ServiceUnderTest, say
from benchmarks.simulation.observed import Observed, observe
from benchmarks.simulation.replicas import Slowness
from benchmarks.simulation.service import Outcome, ServiceShape, simulate
from benchmarks.simulation.sessions import DoorShape
from benchmarks.simulation.talk import Talk
from serve_app.asr.jobs import Role
from serve_app.scaling.costs import DecodeCost

NUM_SEEDS = 8
BAR = 0.25
"""Of the measured p95, either way: the median over all pairs."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One real run and its simulation; ratios are simulated over measured p95."""

    measured_final: Percentiles
    simulated_final: Percentiles
    measured_interim: Percentiles
    simulated_interim: Percentiles

    @property
    def final_ratio(self) -> float | None:
        return _ratio(self.simulated_final, self.measured_final)

    @property
    def interim_ratio(self) -> float | None:
        return _ratio(self.simulated_interim, self.measured_interim)

    def to_json(self) -> dict[str, Any]:
        return {
            "final": {"measured": self.measured_final.to_json(), "simulated": self.simulated_final.to_json()},
            "interim": {
                "measured": self.measured_interim.to_json(),
                "simulated": self.simulated_interim.to_json(),
            },
            "final_p95_ratio": self.final_ratio,
            "interim_p95_ratio": self.interim_ratio,
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
        ratio = "-" if pair.final_ratio is None else f"{pair.final_ratio:.2f}"
        say(f"finals {pair.measured_final} measured, {pair.simulated_final} simulated, p95 ratio {ratio}")
        pairs.append(pair)
    return pairs


def compare(seen: Observed, talks: Sequence[Talk], shape: ServiceShape, *, ramp_s: float) -> Pair:
    """Simulate what was observed, with its own times."""
    interim = DecodeCost.fitted(seen.interims)
    # Interims were timed in batches whose size nobody says: that is in their times, whoever shares them.
    interim = DecodeCost(interim.fixed_s, interim.per_longest + interim.per_audio, 0.0, interim.spread)
    costs = {Role.FINAL: DecodeCost.fitted(seen.finals), Role.INTERIM: interim}
    fitted = replace(shape, costs=costs, rpc_s=median(seen.rpc_ms) / 1000, slowness=_slowness_of(seen, costs))
    fitted = replace(fitted, door=_door_of(seen, talks, fitted, ramp_s))
    finals: list[float] = []
    interims: list[float] = []
    for seed in range(NUM_SEEDS):
        outcome = _simulated(fitted, talks, ramp_s, seed)
        finals.extend(outcome.results.final_ms)
        interims.extend(outcome.results.interim_ms)
    return Pair(
        Percentiles.of(seen.final_ms),
        Percentiles.of(finals),
        Percentiles.of(seen.interim_ms),
        Percentiles.of(interims),
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


def _simulated(shape: ServiceShape, talks: Sequence[Talk], ramp_s: float, seed: int) -> Outcome:
    # Sessions really start a little off their time; and so a different piece of the tick each time.
    begins_s = [begin_s + 0.013 * seed for begin_s in start_delays_s(len(talks), ramp_s)]
    return simulate(shape, talks, begins_s, seed=seed)


def verdict(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The median ratios, and whether that of finals is within the bar."""
    finals = [pair.final_ratio for pair in pairs if pair.final_ratio is not None]
    interims = [pair.interim_ratio for pair in pairs if pair.interim_ratio is not None]
    final = round(median(finals), 3) if finals else None
    return {
        "pairs": [pair.to_json() for pair in pairs],
        "final_p95_ratio": final,
        "interim_p95_ratio": round(median(interims), 3) if interims else None,
        "within_bar": final is not None and abs(final - 1.0) <= BAR,
    }


def _ratio(simulated: Percentiles, measured: Percentiles) -> float | None:
    if simulated.p95 is None or not measured.p95:
        return None
    return round(simulated.p95 / measured.p95, 3)
