"""Replicas as Serve's controller counts them, and a controller that does not answer."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
    ServeStatus,
)

from deployments import replicas
from deployments.replicas import replica_counts
from serve_app.core.errors import StorageUnavailable
from serve_app.service.contract import DeploymentReplicas


def deployment(status: DeploymentStatus, states: dict[ReplicaState, int]) -> DeploymentStatusOverview:
    trigger = DeploymentStatusTrigger.UNSPECIFIED
    return DeploymentStatusOverview(status=status, status_trigger=trigger, replica_states=states, message="")


def found() -> ServeStatus:
    running: Any = ReplicaState.RUNNING.value  # as Serve fills it in, whatever its annotation says
    starting = ReplicaState.STARTING
    application = ApplicationStatusOverview(
        status=ApplicationStatus.RUNNING,
        message="",
        last_deployed_time_s=0.0,
        deployments={
            "Ingress": deployment(DeploymentStatus.HEALTHY, {running: 2}),
            "FinalAsr": deployment(DeploymentStatus.UPSCALING, {running: 1, starting: 1}),
        },
    )
    return ServeStatus(applications={"sotto": application})


async def test_every_deployment_with_its_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "status", found)
    assert await replica_counts() == [
        DeploymentReplicas("Ingress", "HEALTHY", (("RUNNING", 2),)),
        DeploymentReplicas("FinalAsr", "UPSCALING", (("RUNNING", 1), ("STARTING", 1))),
    ]


@pytest.mark.parametrize("error", [RayServeException("gone"), RayActorError()])
async def test_a_controller_that_is_gone(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def status() -> ServeStatus:
        raise error

    monkeypatch.setattr(serve, "status", status)
    with pytest.raises(StorageUnavailable):
        await replica_counts()


async def test_a_controller_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "status", lambda: time.sleep(0.5))
    monkeypatch.setattr(replicas, "LIMIT_S", 0.01)
    with pytest.raises(StorageUnavailable):
        await replica_counts()
