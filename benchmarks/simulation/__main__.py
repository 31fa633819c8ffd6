"""A service of any size, simulated: how late its text is, how many replicas it takes, whether they flap.

    python -m benchmarks.simulation --sessions 10000 --gpu H200 --model large-v3-turbo --max-replicas 400
    python -m benchmarks.simulation --sessions 24 --measure tiny.en
    python -m benchmarks.simulation --paired 5 --sessions 8 --seconds 40

Discrete events instead of audio: the moments of real dialogues' voice detection, and the service's own
scheduler, interim gate, windows and scaling policy around decode times. Those come from a file (`--costs`,
as `--save-costs` writes it), from a card's figures (`--gpu`), from the real model on this machine
(`--measure`), or, with `--paired`, from a real run that is simulated again and compared.

- `final_latency_ms`, `interim_lag_ms`: as in `benchmarks.live.sessions`.
- `scale_events`, `flaps`: the policy's decisions; a flap is a way up within the quiet time of a way down.
- `final_p95_ratio` (`--paired`): simulated over measured p95, the median of all pairs; bar: within 25 %.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.clips import load_clips, session_plans, start_delays_s
from benchmarks.live.sessions import FINAL_P95_BAR_MS
from benchmarks.report import command, command_line, print_columns, print_table, write_json
from benchmarks.scoring import Percentiles
from benchmarks.service import say, service_under_test
from benchmarks.simulation.measure import measure_costs, measure_voice, read_costs
from benchmarks.simulation.paired import run_pairs, verdict
from benchmarks.simulation.replicas import ScalingSetup
from benchmarks.simulation.service import ServiceShape, SimulatedRun, simulate
from benchmarks.simulation.sessions import DoorShape
from benchmarks.simulation.talk import Talk, listen, shuffled, utterances
from serve_app.assembly.voice_activity import load_detector
from serve_app.capacity.policy import ScalingRules
from serve_app.capacity.throughput import DecodeCost, MeasuredCards, card_cost, find_card
from serve_app.core.jobs import Role
from serve_app.launch.cluster import LaunchError
from serve_app.settings import Settings
from serve_app.vad.detector import VoiceDetector

NUM_TALKS = 256
"""Different speakers; more sessions than that share them, started at other times."""
SESSIONS_PER_VOICE_REPLICA = 100
VOICE_CALL_S = 0.002
"""What a voice call takes beside the detection itself."""
CPU_COSTS = {
    Role.FINAL: DecodeCost(0.04, 0.0, 0.025, (0.7, 0.8, 0.9, 1.0, 1.1, 1.5)),
    Role.INTERIM: DecodeCost(0.02, 0.0045, 0.0057, (0.7, 0.8, 0.9, 1.0, 1.1, 1.5)),
}
"""`tiny.en` on one of two cores, roughly; `--measure` says it for this machine."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("simulate", __doc__)
    parser.add_argument("--sessions", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60.0, help="audio per session")
    parser.add_argument("--ramp", type=float, default=4.0, help="seconds over which the starts are spread")
    parser.add_argument("--after", type=float, default=0.0, help="seconds to watch after the last session")
    parser.add_argument("--costs", type=Path, help="decode costs by role, JSON")
    parser.add_argument("--save-costs", type=Path, help="write the costs that were used")
    parser.add_argument("--measure", metavar="MODEL", help="measure decode costs with this model first")
    parser.add_argument("--gpu", help="a card: interims and finals are two deployments with batches")
    parser.add_argument("--model", help="finals: with --gpu large-v3-turbo, with --paired tiny.en")
    parser.add_argument("--interim-model", default="small", help="with --gpu")
    parser.add_argument("--figures", type=Path, help="batches measured by benchmarks.gpu, JSON")
    parser.add_argument("--workers", type=int, default=2, help="workers of one recogniser")
    parser.add_argument("--batch", type=int, default=8, help="windows in one batch on a card")
    parser.add_argument("--min-replicas", type=int, default=1)
    parser.add_argument("--max-replicas", type=int, default=1)
    parser.add_argument("--max-interim-replicas", type=int, help="with --gpu; else as --max-replicas")
    parser.add_argument("--startup", type=float, default=20.0, help="seconds until a new replica decodes")
    parser.add_argument("--paired", type=int, default=0, metavar="N", help="N real runs, each simulated")
    parser.add_argument("--url", help="for --paired: a server that runs already")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.sessions < 1 or options.seconds <= 0 or options.ramp < 0 or options.after < 0:
        parser.error("--sessions and --seconds must be positive, --ramp and --after not negative")
    if not 1 <= options.min_replicas <= options.max_replicas or options.startup <= 0:
        parser.error("--min-replicas must be 1 to --max-replicas, --startup positive")
    if options.workers < 1 or not 1 <= options.batch <= 64 or options.paired < 0:
        parser.error("--workers must be at least 1, --batch 1 to 64, --paired not negative")
    return options


def build_shape(options: argparse.Namespace) -> ServiceShape:
    """The service that is simulated. Raises `ValueError`, `OSError`."""
    num_voice = max(1, math.ceil(options.sessions / SESSIONS_PER_VOICE_REPLICA))
    rules = ScalingRules(startup_s=options.startup)
    scaling = ScalingSetup(options.min_replicas, options.max_replicas, options.startup, rules=rules)
    most_interim = max(options.min_replicas, options.max_interim_replicas or options.max_replicas)
    return ServiceShape(
        costs=_costs(options),
        on_gpu=options.gpu is not None,
        num_workers=options.workers,
        max_batch=options.batch,
        door=_door(load_detector("silero"), num_voice),
        scaling=scaling,
        interim_scaling=replace(scaling, highest=most_interim),
    )


def _door(detector: VoiceDetector, num_voice_replicas: int) -> DoorShape:
    """With voice calls as long as they take here."""
    fixed_s, per_session_s = measure_voice(detector)
    return DoorShape(
        voice_fixed_s=fixed_s + VOICE_CALL_S,
        voice_per_session_s=per_session_s,
        num_voice_replicas=num_voice_replicas,
    )


def _costs(options: argparse.Namespace) -> dict[Role, DecodeCost]:
    if options.costs is not None:
        return read_costs(options.costs)
    if options.measure is not None:
        from serve_app.assembly.recognisers import load_recogniser

        say(f"measuring decode times of {options.measure}")
        settings = Settings.from_dict({"model": options.measure, "language": "en", "num_workers": 1})
        recogniser = load_recogniser(settings, (Role.FINAL, Role.INTERIM), shares_cores=True)
        return measure_costs(load_clips(), recogniser, load_detector("silero"))
    if options.gpu is not None:
        measured = MeasuredCards.read(options.figures) if options.figures is not None else None
        card = find_card(options.gpu)
        models = {Role.FINAL: options.model or "large-v3-turbo", Role.INTERIM: options.interim_model}
        found = {role: card_cost(model, card, measured) for role, model in models.items()}
        for role, known in found.items():
            say(f"{role.value}s: {models[role]} on {card.name}, {known.origin.value} ({known.source})")
        # Both deployments of a card share it: each is slowed down by the other's share of the time.
        return {role: known.cost.scaled(len(found)) for role, known in found.items()}
    say("decode times: tiny.en on one of two cores, roughly (--measure tiny.en says it for this machine)")
    return CPU_COSTS


def make_talks(options: argparse.Namespace) -> list[Talk]:
    """Real utterances in new orders, one talk for up to `NUM_TALKS` sessions."""
    heard = listen([clip.samples for clip in load_clips()], load_detector("silero"))
    dice, pieces = random.Random(options.seed), utterances(heard)
    return [shuffled(pieces, options.seconds, dice) for _ in range(min(NUM_TALKS, options.sessions))]


def run_simulation(options: argparse.Namespace, shape: ServiceShape) -> dict[str, Any]:
    """One simulated service; what `--json` writes."""
    talks = make_talks(options)
    began_s = time.process_time()
    begins_s = start_delays_s(options.sessions, options.ramp)
    until_s = begins_s[-1] + options.seconds + options.after
    simulated_run = simulate(shape, talks, begins_s, seed=options.seed, until_s=until_s)
    return {
        "sessions": options.sessions,
        "seconds": options.seconds,
        "simulated_s": round(until_s, 1),
        "cpu_s": round(time.process_time() - began_s, 2),
        **simulated_run.to_json(),
        "scaled_before_late": scaled_before_late(simulated_run),
    }


def scaled_before_late(simulated_run: SimulatedRun) -> bool | None:
    """Whether the first decision upwards came before p95 of finals passed its bar; None: there was none."""
    first_s = next((e.at_s for e in simulated_run.final_events if e.replicas_to > e.replicas_from), None)
    if first_s is None:
        return None
    late = [s.at_s for s in simulated_run.snapshots if (s.final_p95_ms or 0.0) > FINAL_P95_BAR_MS]
    return not late or first_s < late[0]


def show(result: dict[str, Any]) -> None:
    events = result["scale_events"]
    moments = result["replicas_over_time"]
    rows = [
        ("sessions", str(result["sessions"])),
        ("final latency, ms (p50 / p95 / p99)", str(Percentiles(**result["final_latency_ms"]))),
        ("interim lag, ms", str(Percentiles(**result["interim_lag_ms"]))),
        ("finals, of them ahead of their endpoint", f"{result['finals']}, {result['finals_ahead_of_time']}"),
        ("jobs refused", str(result["refused_jobs"])),
        ("most replicas (finals, interims)", f"{_most(moments, 'final')}, {_most(moments, 'interim')}"),
        ("replicas at the end", f"{moments[-1]['final']}, {moments[-1]['interim']}" if moments else "-"),
        ("scale events, flaps", f"{len(events['final']) + len(events['interim'])}, {result['flaps']}"),
        ("simulated s, CPU s", f"{result['simulated_s']:.0f}, {result['cpu_s']:.1f}"),
    ]
    print_table("Simulated service", rows)
    if events["final"]:
        columns = ("at, s", "reason", "from", "to")
        rows_of_events = [
            (f"{event['at_s']:.0f}", event["reason"], str(event["from"]), str(event["to"]))
            for event in events["final"]
        ]
        print_columns("Decisions for finals", columns, rows_of_events)


def _most(moments: Sequence[dict[str, Any]], name: str) -> int:
    return max((moment[name] for moment in moments), default=0)


def run_paired(options: argparse.Namespace) -> dict[str, Any]:
    """Real runs against a server of our own, each simulated with its decode times."""
    model = options.model or "tiny.en"
    plans = session_plans(load_clips(), options.sessions, options.seconds)
    different = {plan.name: plan for plan in plans}
    detector = load_detector("silero")
    heard = listen([plan.samples() for plan in different.values()], detector)
    talk_of = dict(zip(different, heard, strict=True))
    shape = ServiceShape(costs={}, num_workers=options.workers, door=_door(detector, 1))
    settings = {"model": model, "language": "en", "num_workers": options.workers}
    with service_under_test(options.url, settings=settings) as service:
        talks = [talk_of[plan.name] for plan in plans]
        pairs = run_pairs(service, plans, talks, shape, num_pairs=options.paired, ramp_s=options.ramp)
    return {"sessions": options.sessions, "model": model, **verdict(pairs)}


def show_paired(result: dict[str, Any]) -> None:
    rows = []
    for number, pair in enumerate(result["pairs"], start=1):
        for kind in ("final", "interim"):
            measured, simulated = pair[kind]["measured"], pair[kind]["simulated"]
            rows.append(
                (
                    f"{number}",
                    kind,
                    f"{measured['p50']} / {measured['p95']}",
                    f"{simulated['p50']} / {simulated['p95']}",
                    f"{pair[f'{kind}_p95_ratio']}",
                )
            )
    print_columns(
        "Measured and simulated", ("pair", "", "measured p50 / p95", "simulated", "p95 ratio"), rows
    )
    print(f"median p95 ratio: finals {result['final_p95_ratio']}, interims {result['interim_p95_ratio']}")


@command(LaunchError, ValueError, OSError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if options.paired:
        result = run_paired(options)
        show_paired(result)
        status = 0 if result["within_bar"] else 1
    else:
        shape = build_shape(options)
        if options.save_costs:
            write_json(options.save_costs, {role: asdict(cost) for role, cost in shape.costs.items()})
        result = run_simulation(options, shape)
        show(result)
        status = 0
    write_json(options.json, result)
    return status


if __name__ == "__main__":
    sys.exit(main())
