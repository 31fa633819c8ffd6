"""The policy of serve_config.yaml in Serve's hands: more replicas under load, and back without flapping."""

from __future__ import annotations

import asyncio
import copy

import pytest

from benchmarks.clips import SessionPlan
from benchmarks.cluster.hosts import HostCluster
from benchmarks.cluster.talkers import Talk, compare, talk_together
from cluster_hosts.conftest import SPEED
from serve_app.launch.deploy_config import DeployConfig, deployment

pytestmark = [pytest.mark.hosts, pytest.mark.models]

EAGER = {
    "policy_function": "deployments.autoscaling:WaitingAudioPolicy",
    "policy_kwargs": {"up_share": 0.04, "down_share": 0.02, "quiet_s": 4.0, "startup_s": 5.0},
}
"""So that three people are a load."""
LEAST, MOST = 2, 4


def scaled(config: DeployConfig) -> DeployConfig:
    changed = copy.deepcopy(config)
    deployment(changed, "FinalAsr")["autoscaling_config"].update({"max_replicas": MOST, "policy": EAGER})
    return changed


async def test_finals_get_more_replicas_and_give_them_back(
    cluster: HostCluster, config: DeployConfig, plans: list[SessionPlan], alone: dict[str, Talk]
) -> None:
    wanted: list[int] = []

    async def watch() -> None:
        while True:
            entry = (await asyncio.to_thread(cluster.deployments)).get("FinalAsr")
            if entry is not None:  # while the graph is built anew
                wanted.append(entry["wanted"])
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    await asyncio.to_thread(cluster.deploy, scaled(config))
    talks = await talk_together(cluster.url, plans, speed=SPEED)
    await asyncio.to_thread(
        cluster.wait_until,
        lambda: max(wanted) > LEAST == wanted[-1] and cluster.is_settled(),
        "the policy takes back what it gave",
    )
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    changes = [number for index, number in enumerate(wanted) if index == 0 or number != wanted[index - 1]]
    top = changes.index(max(changes))
    assert max(changes) > LEAST
    assert changes == sorted(changes[: top + 1]) + sorted(changes[top + 1 :], reverse=True), "it flaps"
    seen = compare(talks, alone)
    assert seen["sessions_failed"] == 0, seen["failures"]
    assert [talk.finals for talk in talks] == [alone[talk.plan.name].finals for talk in talks]
    await asyncio.to_thread(cluster.deploy, config)
