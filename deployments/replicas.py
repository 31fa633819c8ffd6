"""How many replicas each deployment has, as Serve's controller says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import DeploymentStatus, ReplicaState

from serve_app.core.errors import StorageUnavailable
from serve_app.service.contract import DeploymentReplicas

LIMIT_S: Final = 5.0


async def replica_counts() -> Sequence[DeploymentReplicas]:
    """Of all applications. Raises `StorageUnavailable` where the controller does not answer."""
    try:
        async with asyncio.timeout(LIMIT_S):
            status = await asyncio.to_thread(serve.status)
    except (RayError, RayServeException, TimeoutError) as error:
        raise StorageUnavailable("Serve's controller does not answer") from error
    # Serve's records are plain dataclasses: states come as enum or as text, by how they were made
    return [
        DeploymentReplicas(
            name,
            DeploymentStatus(one.status).value,
            tuple((ReplicaState(state).value, count) for state, count in one.replica_states.items()),
        )
        for application in status.applications.values()
        for name, one in application.deployments.items()
    ]
