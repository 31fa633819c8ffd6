"""Replacing the final model and the ingress while people talk: no word is lost or said twice."""

from __future__ import annotations

import asyncio
import copy

import pytest

from benchmarks.clips import SessionPlan
from benchmarks.cluster.hosts import HostCluster
from benchmarks.cluster.talkers import Talk, compare, talk_together
from cluster_hosts.conftest import SPEED
from serve_app.launch.deploy_config import DeployConfig, deployment

UPGRADED = ("Ingress", "FinalAsr")

pytestmark = [pytest.mark.hosts, pytest.mark.models]


async def test_a_rolling_upgrade_of_model_and_ingress_changes_no_word(
    cluster: HostCluster, config: DeployConfig, plans: list[SessionPlan], alone: dict[str, Talk]
) -> None:
    newer = copy.deepcopy(config)
    for name in UPGRADED:
        options = deployment(newer, name)["ray_actor_options"]
        options["num_cpus"] += 0.01
    old = {r.replica_id for r in cluster.replicas() if r.deployment in UPGRADED}

    def replaced() -> bool:
        left = {r.replica_id for state in ("RUNNING", "STOPPING") for r in cluster.replicas(state=state)}
        return not old & left and cluster.is_settled()

    async def upgrade() -> None:
        await asyncio.sleep(4)
        await asyncio.to_thread(cluster.deploy, newer)
        await asyncio.to_thread(cluster.wait_until, replaced, "the upgrade is over")

    talks = await talk_together(cluster.url, plans, speed=SPEED, meanwhile=upgrade, outlast=True)
    seen = compare(talks, alone)
    assert seen["sessions_failed"] == 0, seen["failures"]
    assert [talk.finals for talk in talks] == [alone[talk.plan.name].finals for talk in talks]
    assert (seen["audio_unaccounted_ms"], seen["begun_anew"]) == (0, 0)
    assert seen["sessions_resumed"] == len(plans)
