"""A whole host dies under live sessions: their text stays the same, and the others take over."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.clips import SessionPlan
from benchmarks.cluster.faults import is_full, wanted_replicas
from benchmarks.cluster.hosts import HostCluster
from benchmarks.cluster.talkers import Talk, compare, talk_together
from cluster_hosts.conftest import SPEED

pytestmark = [pytest.mark.hosts, pytest.mark.models]


async def test_a_host_that_dies_takes_no_word_with_it(
    cluster: HostCluster, plans: list[SessionPlan], alone: dict[str, Talk]
) -> None:
    wanted = wanted_replicas(cluster)
    victim = cluster.host_of(cluster.replicas("Ingress")[0].address)
    address = cluster.address_of(victim)

    async def kill() -> None:
        await asyncio.sleep(4)
        await asyncio.to_thread(cluster.kill, victim)

    talks = await talk_together(cluster.url, plans, speed=SPEED, meanwhile=kill)
    seen = compare(talks, alone)
    assert seen["sessions_failed"] == 0, seen["failures"]
    assert [talk.finals for talk in talks] == [alone[talk.plan.name].finals for talk in talks]
    assert (seen["audio_unaccounted_ms"], seen["begun_anew"]) == (0, 0)
    assert seen["sessions_resumed"] >= 1
    living = frozenset(cluster.address_of(name) for name in cluster.workers)
    assert address not in living
    waited_s = await asyncio.to_thread(
        cluster.wait_until, lambda: is_full(cluster.replicas(), wanted, living), "the others took over"
    )
    print(f"full capacity {waited_s:.1f} s after the sessions ended")


async def test_a_new_host_joins_and_gets_work(cluster: HostCluster) -> None:
    (name,) = await asyncio.to_thread(cluster.add_workers, 1)
    cards = [node for node in cluster.nodes() if node["alive"] and node["gpus"]]
    assert cluster.address_of(name) in {node["address"] for node in cards}
    assert len(cards) == 3


async def test_a_model_and_a_door_that_die_take_no_word_with_them(
    cluster: HostCluster, plans: list[SessionPlan], alone: dict[str, Talk]
) -> None:
    async def kill() -> None:
        await asyncio.sleep(4)
        model, door = cluster.replicas("FinalAsr")[0], cluster.replicas("Ingress")[0]
        await asyncio.to_thread(cluster.kill_replica, model)
        await asyncio.to_thread(cluster.kill_proxy, cluster.host_of(door.address))

    talks = await talk_together(cluster.url, plans, speed=SPEED, meanwhile=kill)
    seen = compare(talks, alone)
    assert seen["sessions_failed"] == 0, seen["failures"]
    assert [talk.finals for talk in talks] == [alone[talk.plan.name].finals for talk in talks]
    assert (seen["audio_unaccounted_ms"], seen["begun_anew"]) == (0, 0)
    await asyncio.to_thread(cluster.wait_until, cluster.is_settled, "the model is back")
