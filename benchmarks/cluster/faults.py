"""What live sessions notice of a host that dies and of an upgrade, on a cluster of hosts on this machine.

    python -m benchmarks.cluster.faults --kill-host --json out/kill_host.json
    python -m benchmarks.cluster.faults --upgrade ingress --json out/upgrade_ingress.json

Committed dialogues are said in real time over a cluster of three workers with pretended GPUs; in the middle a
host is killed (`--cut`: its cable is pulled first, so that no connection is closed), or a deployment is
replaced. Every transcript is held against what the same clips gave undisturbed: text, segment ids and times.

- `seconds_to`: from the fault to when the head knew of it, and to full capacity (every deployment again with
  as many running replicas as before, on living hosts); with `--add-host` another joins first.
- `final_latency_ms`: from sending the chunk that decided a final to receiving it: before the fault, from
  there to full capacity, and after that.
- `audio_unaccounted_ms`: audio sent that the server did not count.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from benchmarks.clips import load_clips, session_plans
from benchmarks.cluster.console import HostsError
from benchmarks.cluster.hosts import POLL_S, HostCluster, Replica, cluster_of_hosts
from benchmarks.cluster.network import NoNamespaces
from benchmarks.cluster.talkers import Talk, compare, talk_together, undisturbed
from benchmarks.report import command, command_line, print_table, write_json
from benchmarks.scoring import Percentiles
from benchmarks.service import say
from serve_app.launch.cluster import SOURCE_DIR
from serve_app.launch.deploy_config import DeployConfig, deployment, read_deploy_config
from serve_app.launch.gpu_plan import NEVER_ALONE, many_cards


def wanted_replicas(cluster: HostCluster) -> dict[str, int]:
    return {name: entry["wanted"] for name, entry in cluster.deployments().items()}


def is_full(replicas: list[Replica], wanted: Mapping[str, int], addresses: frozenset[str]) -> bool:
    """Whether at least the wanted number of each deployment runs on hosts with these addresses."""
    return all(
        sum(found.deployment == name and found.address in addresses for found in replicas) >= number
        for name, number in wanted.items()
    )


@dataclass(slots=True)
class Timeline:
    """Moments (`time.perf_counter`) by name, each the first time it was seen."""

    began_s: float = field(default_factory=time.perf_counter)
    moments: dict[str, float] = field(default_factory=dict)

    def begin(self) -> None:
        """Now it happens."""
        self.began_s = time.perf_counter()

    def note(self, name: str) -> None:
        self.moments.setdefault(name, time.perf_counter())

    def since_began(self) -> dict[str, float]:
        return {name: round(at_s - self.began_s, 2) for name, at_s in self.moments.items()}

    async def wait_for(
        self, name: str, reached: Callable[[], bool], *, timeout_s: float, poll_s: float = POLL_S
    ) -> bool:
        """Ask in a thread until it holds; notes when. False after `timeout_s`."""
        deadline = time.perf_counter() + timeout_s
        while time.perf_counter() < deadline:
            if await asyncio.to_thread(reached):
                self.note(name)
                return True
            await asyncio.sleep(poll_s)
        return False


PRODUCTION = SOURCE_DIR / "serve_config.yaml"
NUM_CPUS = 0.1
SMALL_SETTINGS: dict[str, Any] = {
    "model": "tiny.en",
    "language": "en",
    "num_workers": 1,
    "offline": True,
    "idle_timeout_s": 300,
}


def small_config(*, autoscaling: Mapping[str, Mapping[str, Any]] | None = None) -> DeployConfig:
    """The production file with tiny models, little CPU a replica, and proxies that other hosts reach.

    `autoscaling` is laid over each deployment's own, by its name.
    """
    config = copy.deepcopy(read_deploy_config(PRODUCTION))
    config["proxy_location"] = "EveryNode"
    config["http_options"] = {**config["http_options"], "host": "0.0.0.0"}
    application = config["applications"][0]
    args = dict(application.get("args") or {})
    # Every ingress must take the tickets of the others: on a cluster the key comes from a secret.
    key = {"ticket_secret": secrets.token_urlsafe(32)}
    args["settings"] = {**(args.get("settings") or {}), **SMALL_SETTINGS, **key}
    application["args"] = args
    for entry in application["deployments"]:
        entry["ray_actor_options"] = {**(entry.get("ray_actor_options") or {}), "num_cpus": NUM_CPUS}
        if "autoscaling_config" in entry:
            changes = (autoscaling or {}).get(entry["name"], {})
            entry["autoscaling_config"] = {**entry["autoscaling_config"], **changes}
    return config


def fixed_replicas(number: int, *names: str) -> dict[str, dict[str, int]]:
    """For `small_config`: this number of each deployment that is scaled, at any load."""
    bounds = {"min_replicas": number, "max_replicas": number}
    return dict.fromkeys(names or NEVER_ALONE, bounds)


UPGRADES = {"model": ("FinalAsr",), "ingress": ("Ingress",), "all": ()}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("cluster_faults", __doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kill-host", action="store_true", help="kill one worker while they talk")
    what.add_argument("--upgrade", choices=sorted(UPGRADES), help="replace one deployment, or all of them")
    parser.add_argument("--cut", action="store_true", help="pull the host's cable before it is killed")
    parser.add_argument(
        "--add-host", action="store_true", help="a new host joins once the dead one is missed"
    )
    parser.add_argument("--sessions", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=75.0, help="audio per session, at least")
    parser.add_argument("--at", type=float, default=25.0, help="seconds after the start of the talk")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--finals", type=int, default=2, help="replicas of the final model, at least")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for full capacity")
    options = parser.parse_args(arguments)
    if min(options.sessions, options.workers, options.finals) < 1 or options.seconds <= options.at:
        parser.error("--sessions, --workers and --finals must be positive, --seconds longer than --at")
    return options


def cluster_config(options: argparse.Namespace) -> DeployConfig:
    """Two of everything, so that no single host has the last one; the load changes nothing meanwhile."""
    return many_cards(
        small_config(autoscaling=fixed_replicas(2) | fixed_replicas(options.finals, "FinalAsr"))
    )


def upgraded(config: DeployConfig, which: str) -> DeployConfig:
    """Another version of `config`: of one deployment by its share of a CPU, of all by a setting."""
    changed = copy.deepcopy(config)
    for name in UPGRADES[which]:
        entry = deployment(changed, name)
        entry["ray_actor_options"] = {**entry["ray_actor_options"], "num_cpus": 0.11}
    if which == "all":
        changed["applications"][0]["args"]["settings"]["max_batch_size"] = 7
    return changed


async def kill_host(cluster: HostCluster, options: argparse.Namespace, timeline: Timeline) -> dict[str, Any]:
    """Kill the worker with most of the replicas that sessions hang on, and wait for full capacity."""
    await asyncio.sleep(options.at)
    wanted = await asyncio.to_thread(wanted_replicas, cluster)
    replicas = await asyncio.to_thread(cluster.replicas)
    per_host = {name: [r for r in replicas if cluster.host_of(r.address) == name] for name in cluster.workers}
    victim = max(per_host, key=lambda name: _weight([r.deployment for r in per_host[name]]))
    address = cluster.address_of(victim)
    timeline.begin()
    await asyncio.to_thread(cluster.kill, victim, cut=options.cut)

    def is_known() -> bool:
        return not any(node["alive"] and node["address"] == address for node in cluster.nodes())

    await timeline.wait_for("node_dead", is_known, timeout_s=options.timeout)
    living = {node["address"] for node in await asyncio.to_thread(cluster.nodes) if node["alive"]}
    if options.add_host:
        added = await asyncio.to_thread(cluster.add_workers, 1)
        timeline.note("host_added")
        living |= {cluster.address_of(name) for name in added}
    full = await timeline.wait_for(
        "full_capacity",
        lambda: is_full(cluster.replicas(), wanted, frozenset(living)),
        timeout_s=options.timeout,
    )
    return {
        "lost": sorted(r.deployment for r in per_host[victim]),
        "replicas_before": {name: sorted(r.deployment for r in found) for name, found in per_host.items()},
        "replicas_wanted": wanted,
        "reached_full_capacity": full,
        "seconds_to": timeline.since_began(),
    }


def _weight(names: Sequence[str]) -> tuple[bool, bool, int]:
    return "Ingress" in names, "FinalAsr" in names, len(names)


async def upgrade(
    cluster: HostCluster, options: argparse.Namespace, timeline: Timeline, config: DeployConfig
) -> dict[str, Any]:
    """Deploy another version and wait until none of the old replicas is left."""
    await asyncio.sleep(options.at)
    names = UPGRADES[options.upgrade] or tuple(await asyncio.to_thread(wanted_replicas, cluster))
    old = {r.replica_id for r in await asyncio.to_thread(cluster.replicas) if r.deployment in names}
    timeline.begin()
    await asyncio.to_thread(cluster.deploy, upgraded(config, options.upgrade))

    def new_ones_run() -> bool:
        return bool({r.replica_id for r in cluster.replicas() if r.deployment in names} - old)

    def old_ones_gone() -> bool:
        left = [r for state in ("RUNNING", "STOPPING") for r in cluster.replicas(state=state)]
        return not old & {r.replica_id for r in left} and cluster.is_settled(names)

    await timeline.wait_for("first_new_replica", new_ones_run, timeout_s=options.timeout)
    done = await timeline.wait_for("old_replicas_gone", old_ones_gone, timeout_s=options.timeout)
    return {"replaced": sorted(names), "finished": done, "seconds_to": timeline.since_began()}


def latencies(talks: Sequence[Talk], timeline: Timeline, done: str) -> dict[str, Any]:
    """Of finals before the fault, until `done`, and after it."""
    began_s = timeline.began_s
    done_s = timeline.moments.get(done, float("inf"))
    every = [pair for result in talks for pair in result.latencies_ms]
    return {
        "before": Percentiles.of(ms for at_s, ms in every if at_s < began_s).to_json(),
        "during": Percentiles.of(ms for at_s, ms in every if began_s <= at_s < done_s).to_json(),
        "after": Percentiles.of(ms for at_s, ms in every if at_s >= done_s).to_json(),
    }


async def measure(cluster: HostCluster, options: argparse.Namespace, config: DeployConfig) -> dict[str, Any]:
    clips = load_clips()
    plans = list(islice(cycle(session_plans(clips, len(clips), options.seconds)), options.sessions))
    say(f"{len({plan.name for plan in plans})} orders of clips, undisturbed")
    alone = await undisturbed(cluster.url, plans)
    say(f"{len(plans)} sessions in real time")
    timeline, facts = Timeline(), dict[str, Any]()

    async def meanwhile() -> None:
        if options.kill_host:
            facts.update(await kill_host(cluster, options, timeline))
        else:
            facts.update(await upgrade(cluster, options, timeline, config))
        say(f"{facts['seconds_to']}")

    talks = await talk_together(cluster.url, plans, meanwhile=meanwhile)
    done = "full_capacity" if options.kill_host else "old_replicas_gone"
    return {**compare(talks, alone), **facts, "final_latency_ms": latencies(talks, timeline, done)}


def show(result: dict[str, Any]) -> None:
    latency = result["final_latency_ms"]
    rows = [
        ("sessions; identical to the undisturbed", f"{result['sessions']}; {result['sessions_identical']}"),
        ("words; lost; too many", f"{result['words']}; {result['words_lost']}; {result['words_too_many']}"),
        ("audio not accounted for, ms", f"{result['audio_unaccounted_ms']}"),
        ("sessions resumed; resumes", f"{result['sessions_resumed']}; {result['resumes']}"),
        ("begun anew; failed", f"{result['begun_anew']}; {result['sessions_failed']}"),
        *((f"seconds to {name.replace('_', ' ')}", f"{s:.1f}") for name, s in result["seconds_to"].items()),
        *(
            (f"finals {when}, ms (p50 / p95; count)", f"{of['p50']} / {of['p95']}; {of['count']}")
            for when, of in latency.items()
        ),
    ]
    print_table("Cluster faults", rows)
    for failure in [*result["failures"], *result["errors"]]:
        print(f"said: {failure}")


@command(NoNamespaces, HostsError, RuntimeError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    config = cluster_config(options)
    with cluster_of_hosts(options.workers) as cluster:
        say("hosts are up; deploying")
        cluster.deploy(config)
        cluster.wait_until(cluster.is_settled, "every deployment is healthy")
        cluster.wait_until(lambda: cluster.answers(cluster.url), "the gateway answers")
        result = asyncio.run(measure(cluster, options, config))
    show(result)
    write_json(options.json, {"options": {k: str(v) for k, v in vars(options).items()}, **result})
    held = result["sessions_identical"] == result["sessions"] and result["audio_unaccounted_ms"] == 0
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
