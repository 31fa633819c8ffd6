"""What the cluster looked like and when: the time from a fault to full capacity."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.hosts import POLL_S, HostCluster, Replica


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
