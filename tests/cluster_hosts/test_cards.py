"""Where the replicas of serve_config.yaml land on several cards."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.cluster.hosts import HEAD, HostCluster

pytestmark = [pytest.mark.hosts, pytest.mark.models]


def hosts_of(cluster: HostCluster, deployment: str) -> list[str]:
    return [cluster.host_of(replica.address) for replica in cluster.replicas(deployment)]


def test_no_two_finals_share_a_card(cluster: HostCluster) -> None:
    hosts = hosts_of(cluster, "FinalAsr")
    assert len(hosts) == 2
    assert len(set(hosts)) == 2


def test_no_host_has_the_only_ingress_or_detector(cluster: HostCluster) -> None:
    for deployment in ("Ingress", "VoiceActivity", "InterimAsr"):
        assert len(set(hosts_of(cluster, deployment))) >= 2, deployment


def test_speakers_are_told_apart_on_a_card_without_finals(cluster: HostCluster) -> None:
    speakers = hosts_of(cluster, "Diarization")
    assert speakers == ["worker3"]
    assert not set(speakers) & set(hosts_of(cluster, "FinalAsr"))


def test_nothing_runs_on_the_head(cluster: HostCluster) -> None:
    assert HEAD not in {cluster.host_of(replica.address) for replica in cluster.replicas()}


def test_shares_add_up_to_what_is_gone_of_each_card(cluster: HostCluster) -> None:
    shares = {name: entry["num_gpus"] for name, entry in cluster.deployments().items()}
    assert shares == {
        "VoiceActivity": 0.05,
        "InterimAsr": 0.15,
        "FinalAsr": 0.35,
        "Diarization": 0.1,
        "Ingress": 0,
    }
    taken: Counter[str] = Counter()
    for replica in cluster.replicas():
        taken[replica.address] += shares[replica.deployment]
    cards = {node["address"]: node for node in cluster.nodes() if node["alive"] and node["gpus"]}
    assert len(cards) == 3
    for address, node in cards.items():
        assert node["gpus"] - node["gpus_left"] == pytest.approx(taken[address]), address
        assert node["gpus_left"] >= 0
