"""Limits held across all ingress replicas: one small actor of the application counts, replicas ask it.

It is started by the first replica that has something to count, outlives replicas, is started again where its
node dies (windows then begin anew, leases are renewed into it), and ends once no replica has asked for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import ray
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import RayError

from serve_app.access.limit_store import DAY_S, Charge, LimitStore, LocalCounts, Outcome, Seat, StoreLost

NAMESPACE: Final = "sotto"
TIMEOUT_S: Final = 3.0
"""For one answer, which takes a millisecond."""
START_TIMEOUT_S: Final = 30.0
"""For the first, which waits for the actor's process."""
UNUSED_S: Final = float(DAY_S)
"""No window goes back further."""


class LimitCounts:
    """The actor: what it is asked is done by one thread, hence all or nothing."""

    def __init__(self, unused_s: float = UNUSED_S) -> None:
        self._counts = LocalCounts()
        self._unused_s = unused_s
        self._asked_s = 0.0
        self._retiring: asyncio.TimerHandle | None = None

    async def take(self, charges: Sequence[Charge]) -> Outcome:
        self._is_used()
        return self._counts.take(charges)

    async def acquire(self, lease: str, seats: Sequence[Seat]) -> Seat | None:
        self._is_used()
        return self._counts.acquire(lease, seats)

    async def release(self, lease: str, names: Collection[str]) -> None:
        self._is_used()
        self._counts.release(lease, names)

    async def renew(self, leases: Mapping[str, Sequence[str]]) -> None:
        self._is_used()
        self._counts.renew(leases)

    async def retire(self) -> None:
        ray.actor.exit_actor()

    def _is_used(self) -> None:
        self._asked_s = asyncio.get_running_loop().time()
        if self._retiring is None:
            self._look_again(self._unused_s)

    def _look_again(self, wait_s: float) -> None:
        self._retiring = asyncio.get_running_loop().call_later(wait_s, self._retire_if_unused)

    def _retire_if_unused(self) -> None:
        left_s = self._asked_s + self._unused_s - asyncio.get_running_loop().time()
        if left_s > 0:
            self._look_again(left_s)
        else:
            ray.get_runtime_context().current_actor.retire.remote()


class SharedCounts:
    """The actor of this application as a `LimitStore`."""

    def __init__(self, app_name: str) -> None:
        self._name = f"sotto-limits-{app_name}"
        self._actor: ActorHandle[LimitCounts] | None = None
        self._has_answered = False

    async def take(self, charges: Sequence[Charge]) -> Outcome:
        outcome: Outcome = await self._ask("take", list(charges))
        return outcome

    async def acquire(self, lease: str, seats: Sequence[Seat]) -> Seat | None:
        full: Seat | None = await self._ask("acquire", lease, list(seats))
        return full

    async def release(self, lease: str, names: Collection[str]) -> None:
        await self._ask("release", lease, list(names))

    async def renew(self, leases: Mapping[str, Sequence[str]]) -> None:
        await self._ask("renew", dict(leases))

    async def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            if self._actor is None:
                self._actor = await asyncio.to_thread(self._find)
            async with asyncio.timeout(TIMEOUT_S if self._has_answered else START_TIMEOUT_S):
                answer = await getattr(self._actor, method).remote(*arguments)
        except (RayError, TimeoutError, ValueError) as error:
            self._actor = None
            raise StoreLost(f"the actor {self._name} does not answer: {type(error).__name__}") from error
        self._has_answered = True
        return answer

    def _find(self) -> ActorHandle[LimitCounts]:
        options: dict[str, Any] = {
            "name": self._name,
            "namespace": NAMESPACE,
            "get_if_exists": True,
            "lifetime": "detached",
            "num_cpus": 0,
            "max_restarts": -1,
        }
        actor: ActorHandle[LimitCounts] = ray.remote(LimitCounts).options(**options).remote()
        return actor


def shared_counts() -> LimitStore:
    """Those of the application that this replica belongs to."""
    return SharedCounts(serve.get_replica_context().app_name)
