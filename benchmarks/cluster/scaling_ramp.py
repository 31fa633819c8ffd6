"""A ramp of live sessions on the GPU graph with pretended cards: does the policy act before finals are late?

    python -m benchmarks.cluster.scaling_ramp --sessions 20 --ramp 90 --seconds 60 --json out/ramp.json

Starts serve_config.yaml on this machine (models on the CPU, one worker a replica, one replica of each), lets
sessions come in over the ramp, and reads the policy's decisions from the controller's log. `first_up_s`: when
the first replica for finals was decided on; `late_s`: when the 95th percentile of finals of the ten seconds
before first passed the bar, None where it never did; `flaps`: decisions up within a quiet time of one down,
or the reverse. Ends when the deployment is at its minimum again.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import re
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import load_clips, session_plans
from benchmarks.cluster.talkers import talk_together
from benchmarks.live.sessions import FINAL_P95_BAR_MS
from benchmarks.report import command, command_line, print_table, write_json
from benchmarks.scoring import Percentiles
from benchmarks.service import say
from serve_app.core.errors import SottoError
from serve_app.launch.cluster import ClusterOptions, LaunchError, free_ports
from serve_app.launch.deploy_config import DeployConfig, deployment
from serve_app.launch.plan import plan_service
from serve_app.launch.serving import running_service

FINALS = "FinalAsr"
WINDOW_S = 10.0
MIN_FINALS = 5
_DECISION = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d).*autoscaling decision")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FIELD = re.compile(r"(\w+)=('[^']*'|\S+)")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("scaling_ramp", __doc__)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--ramp", type=float, default=90.0, help="seconds until the last session starts")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each session")
    parser.add_argument("--quiet", type=float, default=30.0, help="the policy's quiet_s")
    parser.add_argument("--startup", type=float, default=20.0, help="the policy's startup_s")
    parser.add_argument("--bar-ms", type=float, default=FINAL_P95_BAR_MS)
    return parser.parse_args(arguments)


def ramp_config(config: DeployConfig, quiet_s: float, startup_s: float) -> DeployConfig:
    """The production file with one replica of each, and of finals up to four."""
    changed = copy.deepcopy(config)
    for name in ("Ingress", "VoiceActivity", "InterimAsr"):
        deployment(changed, name)["autoscaling_config"].update(min_replicas=1, max_replicas=1)
    deployment(changed, FINALS)["autoscaling_config"].update(
        min_replicas=1,
        max_replicas=4,
        policy={
            "policy_function": "deployments.autoscaling:WaitingAudioPolicy",
            "policy_kwargs": {"quiet_s": quiet_s, "startup_s": startup_s},
        },
    )
    return changed


def decisions(log_dir: Path) -> list[tuple[float, int, int, str]]:
    """Unix time, replicas from and to, and reason of every decision on finals in Ray's logs, in order."""
    found = set()
    for path in log_dir.rglob("*"):
        if not path.is_file() or path.suffix not in (".out", ".err", ".log"):
            continue
        for line in path.read_text(errors="replace").splitlines():
            plain = _COLOUR.sub("", line)
            match = _DECISION.search(plain)
            if match is None:
                continue
            fields = {key: value.strip("'") for key, value in _FIELD.findall(plain)}
            if fields.get("deployment") == FINALS:
                at_s = datetime.fromisoformat(match[1]).timestamp()
                found.add((at_s, int(fields["replicas_from"]), int(fields["replicas_to"]), fields["reason"]))
    return sorted(found)


def first_late_s(latencies: Sequence[tuple[float, float]], bar_ms: float) -> float | None:
    """When the 95th percentile of the finals of the last `WINDOW_S` first passed the bar; `latencies` as
    moment and ms."""
    ordered = sorted(latencies)
    for index, (at_s, _) in enumerate(ordered):
        recent = [ms for moment, ms in ordered[: index + 1] if moment > at_s - WINDOW_S]
        if len(recent) >= MIN_FINALS and float(np.percentile(recent, 95)) > bar_ms:
            return at_s
    return None


def num_flaps(changes: Sequence[tuple[float, int, int, str]], quiet_s: float) -> int:
    """Decisions that take back another within a quiet time."""
    pairs = zip(changes, changes[1:], strict=False)
    return sum((b[2] - b[1]) * (a[2] - a[1]) < 0 and b[0] - a[0] < quiet_s for a, b in pairs)


async def run_ramp(url: str, options: argparse.Namespace) -> tuple[list[tuple[float, float]], list[str]]:
    plans = session_plans(load_clips(), options.sessions, options.seconds)
    talks = await talk_together(url, plans, ramp_s=options.ramp)
    return [pair for talk in talks for pair in talk.latencies_ms], [t.failure for t in talks if t.failure]


@command(SottoError, LaunchError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    settings = {"model": "tiny.en", "language": "en", "num_workers": 1, "offline": True}
    flags = {**settings, "profile": "gpu", "host": "127.0.0.1", "port": free_ports(1)[0]}
    plan = plan_service(flags, cluster=ClusterOptions(num_gpus=2))
    config = ramp_config(plan.config, options.quiet, options.startup)
    with running_service(config, cluster=plan.cluster, progress=say) as service:
        unix_s = time.time() - time.perf_counter()
        began_s = time.time()
        latencies, failures = asyncio.run(run_ramp(service.url, options))
        ended_s = time.time()
        assert service.log_dir is not None
        deadline_s = time.monotonic() + 20 * options.quiet
        while time.monotonic() < deadline_s:
            changes = decisions(service.log_dir)
            if changes and changes[-1][2] == 1:
                break
            time.sleep(2)
    late_s = first_late_s([(unix_s + moment, ms) for moment, ms in latencies], options.bar_ms)
    ups = [change for change in changes if change[2] > change[1]]
    result: dict[str, Any] = {
        "sessions": options.sessions,
        "failed": len(failures),
        "final_latency_ms": Percentiles.of(ms for _, ms in latencies).to_json(),
        "decisions": [(round(at_s - began_s, 1), a, b, reason) for at_s, a, b, reason in changes],
        "first_up_s": round(ups[0][0] - began_s, 1) if ups else None,
        "late_s": None if late_s is None else round(late_s - began_s, 1),
        "sessions_over_s": round(ended_s - began_s, 1),
        "back_at_minimum": bool(changes) and changes[-1][2] == 1,
        "flaps": num_flaps(changes, options.quiet),
    }
    print_table("A ramp", [(name, str(value)) for name, value in result.items()])
    write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
