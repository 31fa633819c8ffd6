"""One cluster of a head and three workers for the whole run, each in a network namespace of its own.

The files run by their names: cards first, while nothing has been broken yet. A test may leave other hosts and
other versions behind, but two replicas of everything that run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.clips import SessionPlan, load_clips
from benchmarks.cluster.faults import fixed_replicas, small_config
from benchmarks.cluster.hosts import HostCluster, cluster_of_hosts
from benchmarks.cluster.network import why_no_namespaces
from benchmarks.cluster.talkers import Talk, undisturbed
from serve_app.launch.deploy_config import DeployConfig
from serve_app.launch.gpu_plan import SPEAKER_CARD, many_cards

SPEED = 2.0


@pytest.fixture(scope="session")
def config() -> DeployConfig:
    """Two of everything, whatever the load: only the test of scaling lets it decide."""
    return many_cards(small_config(autoscaling=fixed_replicas(2)))


@pytest.fixture(scope="session")
def cluster(config: DeployConfig) -> Iterator[HostCluster]:
    """Deployed and settled; every test leaves it so."""
    problem = why_no_namespaces()
    if problem:
        pytest.skip(problem)
    with cluster_of_hosts(3, labels={"worker3": SPEAKER_CARD}) as running:
        running.deploy(config)
        running.wait_until(running.is_settled, "every deployment is healthy")
        running.wait_until(lambda: running.answers(running.url), "the gateway answers")
        yield running


@pytest.fixture(scope="session")
def plans() -> list[SessionPlan]:
    """Three people, each with a dialogue."""
    return [SessionPlan((clip,)) for clip in load_clips()]


@pytest.fixture(scope="session")
async def alone(cluster: HostCluster, plans: list[SessionPlan]) -> dict[str, Talk]:
    """What each of them comes to when nothing goes on."""
    return await undisturbed(cluster.url, plans, speed=SPEED)
