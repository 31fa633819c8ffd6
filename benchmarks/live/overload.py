"""What a server does with more speakers than it can hold: its capacity by a ramp, then several times that.

    python -m benchmarks.live.overload --json out/overload.json
    python -m benchmarks.live.overload --final-model base --json out/overload_default.json

Three parts, on one server started for it:

1. The figure that the server gives for itself, before any session (`/health/status`).
2. A ramp on a server without a limit of sessions: runs with more and more speakers.
   The capacity is the most for which no session failed and the p95 of finals stayed under the bar (900 ms, or
   `--bar-ms`), between the last step that held and the first that did not.
3. `--times` (5) the capacity on a server with its own limit, for `--seconds` (60), coming as fast as in the
   ramp, or all within `--arrive-s`. Of those who were admitted: finals lost (against the words that the same
   clips gave at capacity), the p95 of their finals, and the p95 of the first and the second half, which says
   whether they grow. Of the others: how soon they were told, and in which words.

Speakers talk without pause, as in `benchmarks.live.sessions`, and run on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.clips import SessionPlan, load_clips, session_plans, start_delays_s
from benchmarks.live.load import SessionResult, run_load, run_session
from benchmarks.live.sessions import FINAL_P95_BAR_MS
from benchmarks.report import command, command_line, print_table, write_json
from benchmarks.scoring import Percentiles, word_errors
from benchmarks.service import ServiceUnderTest, say, service_under_test, snapshot
from serve_app.launch.cluster import LaunchError

RAMP_S = 4.0
"""Over which the starts are spread: the clips are the same ones, and would end in step."""
TOLD_CODES = ("MAX_SESSIONS_REACHED", "QUEUE_FULL", "QUEUE_CONGESTION")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("overload", __doc__)
    parser.add_argument("--final-model", default="tiny.en")
    parser.add_argument("--interim-model", default="tiny.en")
    parser.add_argument("--language", default="en")
    parser.add_argument("--profile", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--bar-ms", type=float, default=FINAL_P95_BAR_MS)
    parser.add_argument("--step-seconds", type=float, default=25.0, help="audio per session in the ramp")
    parser.add_argument("--seconds", type=float, default=60.0, help="audio per session past capacity")
    parser.add_argument("--times", type=float, default=5.0)
    parser.add_argument("--arrive-s", type=float, help="over which the crowd comes (as fast as in the ramp)")
    parser.add_argument("--chunk-ms", type=int, default=100)
    return parser.parse_args(arguments)


@dataclass(frozen=True, slots=True)
class Step:
    """One run of the ramp: its number of speakers, and how late their finals were."""

    sessions: int
    failed: int
    p50_ms: float
    p95_ms: float
    word_error_rate: float

    def holds(self, bar_ms: float) -> bool:
        return not self.failed and self.p95_ms < bar_ms


async def ramp(service: ServiceUnderTest, options: argparse.Namespace, guess: int) -> list[Step]:
    """Steps around `guess`, by a tenth of it, from where it holds to where it does not."""
    clips = load_clips()
    steps: list[Step] = []
    by = max(1, round(guess / 8))
    number = max(1, guess - 2 * by)

    async def measured(sessions: int) -> Step:
        plans = session_plans(clips, sessions, options.step_seconds)
        load = await run_load(
            service.url,
            plans,
            ramp_s=RAMP_S,
            steady_until_s=options.step_seconds,
            chunk_ms=options.chunk_ms,
            language=options.language,
            measure=lambda: snapshot(service.runtime_dir),
        )
        through = [one for one in load.sessions if one.failure is None]
        found = Percentiles.of(ms for one in through for ms in one.final_latency_ms)
        errors = word_errors([one.plan.text for one in through], [one.text for one in through])
        step = Step(
            sessions,
            len(plans) - len(through),
            found.p50 or 0.0,
            found.p95 if found.p95 is not None else float("inf"),
            errors.rate,
        )
        say(f"{sessions} speakers: p95 {step.p95_ms:.0f} ms, {step.failed} failed")
        steps.append(step)
        return step

    step = await measured(number)
    while not step.holds(options.bar_ms) and number > 1:
        number = max(1, number - 2 * by)
        step = await measured(number)
    while step.holds(options.bar_ms):
        number += by
        step = await measured(number)
    return sorted(steps, key=lambda one: one.sessions)


@dataclass(frozen=True, slots=True)
class Refused:
    """One who was not admitted: after how many ms, and with which code."""

    after_ms: float
    code: str


async def crowd(
    service: ServiceUnderTest, options: argparse.Namespace, plans: Sequence[SessionPlan]
) -> tuple[list[SessionResult], list[Refused]]:
    """Those who were admitted, those who were refused."""
    arrive_s = options.times * RAMP_S if options.arrive_s is None else options.arrive_s

    async def one(delay_s: float, plan: SessionPlan) -> tuple[SessionResult, float]:
        await asyncio.sleep(delay_s)
        began_s = time.perf_counter()
        result = await run_session(service.url, plan, chunk_ms=options.chunk_ms, language=options.language)
        return result, 1000 * (time.perf_counter() - began_s)

    admitted: list[SessionResult] = []
    refused: list[Refused] = []
    for result, took_ms in await asyncio.gather(*map(one, start_delays_s(len(plans), arrive_s), plans)):
        told = next((code for code in TOLD_CODES if result.failure and code in result.failure), None)
        if told is not None and not result.finals:
            refused.append(Refused(took_ms, told))
        else:
            admitted.append(result)
    return admitted, refused


def summarise(
    own_figure: int,
    steps: Sequence[Step],
    admitted: Sequence[SessionResult],
    refused: Sequence[Refused],
    *,
    bar_ms: float,
) -> dict[str, Any]:
    """What `--json` writes. `lost_finals`: utterances that came to no text, as deletions against the words of
    the clips beyond those at capacity."""
    held = [step for step in steps if step.holds(bar_ms)]
    capacity = max((step.sessions for step in held), default=0)
    at_capacity = next((step for step in held if step.sessions == capacity), None)
    all_finals = Percentiles.of(ms for one in admitted for ms in one.final_latency_ms)
    halves: list[list[float]] = [[], []]
    for one in admitted:
        middle = len(one.final_latency_ms) // 2
        halves[0] += one.final_latency_ms[:middle]
        halves[1] += one.final_latency_ms[middle:]
    p95_by_half = [Percentiles.of(half).p95 for half in halves]
    errors = word_errors([one.plan.text for one in admitted], [one.text for one in admitted])
    return {
        "own_figure": own_figure,
        "capacity": capacity,
        "own_figure_over_capacity": round(own_figure / capacity, 2) if capacity else None,
        "steps": [
            {"sessions": s.sessions, "failed": s.failed, "p50_ms": round(s.p50_ms), "p95_ms": round(s.p95_ms)}
            for s in steps
        ],
        "p95_ms_at_capacity": round(at_capacity.p95_ms) if at_capacity else None,
        "word_error_rate_at_capacity": round(at_capacity.word_error_rate, 4) if at_capacity else None,
        "asked": len(admitted) + len(refused),
        "admitted": len(admitted),
        "admitted_failed": [one.failure for one in admitted if one.failure is not None],
        "finals": all_finals.count,
        "final_latency_ms": all_finals.to_json(),
        "p95_over_capacity": round(all_finals.p95 / at_capacity.p95_ms, 2)
        if at_capacity and all_finals.p95
        else None,
        "p95_ms_by_half": [None if p95 is None else round(p95) for p95 in p95_by_half],
        "word_error_rate": round(errors.rate, 4) if admitted else None,
        "sessions_without_text": sum(not one.finals for one in admitted),
        "audio_dropped_ms": round(sum(max(0.0, one.audio_dropped_ms) for one in admitted), 1),
        "refused": len(refused),
        "refused_after_ms": Percentiles.of(one.after_ms for one in refused).to_json(),
        "refused_with": dict(Counter(one.code for one in refused)),
    }


def show(result: Mapping[str, Any]) -> None:
    finals, told = result["final_latency_ms"], result["refused_after_ms"]
    print_table(
        "Past capacity",
        [
            ("the server's own figure", str(result["own_figure"])),
            ("capacity found", f"{result['capacity']} ({result['own_figure_over_capacity']} of it was said)"),
            *((f"  {s['sessions']} speakers", f"p95 {s['p95_ms']} ms") for s in result["steps"]),
            ("asked / admitted / refused", f"{result['asked']} / {result['admitted']} / {result['refused']}"),
            ("final latency of the admitted, ms (p50 / p95)", f"{finals['p50']} / {finals['p95']}"),
            ("  over that at capacity", str(result["p95_over_capacity"])),
            ("  first and second half, p95", str(result["p95_ms_by_half"])),
            ("failed, without text", f"{result['admitted_failed']}, {result['sessions_without_text']}"),
            (
                "word error rate (at capacity)",
                f"{result['word_error_rate']} ({result['word_error_rate_at_capacity']})",
            ),
            ("refused after, ms (p50 / p95)", f"{told['p50']} / {told['p95']}"),
            ("refused with", str(result["refused_with"])),
        ],
    )


@command(LaunchError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    settings = {
        "final_model": options.final_model,
        "interim_model": options.interim_model,
        "language": options.language,
    }
    unlimited = settings | {"max_sessions": 10_000, "max_estimated_server_total_ms": 600_000}
    with service_under_test(None, profile=options.profile, settings=unlimited) as service:
        status = httpx.get(f"{service.url}/health/status", timeout=10).json()
        own_figure = int(status["capacity"]["estimated_max_concurrent"])
        say(f"the server says that {own_figure} people may talk at once")
        steps = asyncio.run(ramp(service, options, max(2, own_figure)))
    capacity = max((step.sessions for step in steps if step.holds(options.bar_ms)), default=1)
    plans = session_plans(load_clips(), round(options.times * capacity), options.seconds)
    with service_under_test(None, profile=options.profile, settings=settings) as service:
        say(f"{len(plans)} speakers at once")
        admitted, refused = asyncio.run(crowd(service, options, plans))
    result = summarise(own_figure, steps, admitted, refused, bar_ms=options.bar_ms)
    show(result)
    write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
