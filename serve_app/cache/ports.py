"""What the doors of every ingress replica ask of the one cache of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class CacheLost(Exception):
    """The cache does not answer; the work goes on without it."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Since the cache's process started. `num_entries` and `num_bytes`: None where the store does not say."""

    hits: int = 0
    misses: int = 0
    num_entries: int | None = None
    num_bytes: int | None = None

    @property
    def hit_rate(self) -> float:
        total = self.hits + self.misses
        return self.hits / total if total else 0.0


class ResultStore(Protocol):
    """Results by key, opaque here. Every method raises `CacheLost`."""

    async def look_up(self, key: str) -> bytes | None:
        """What was kept under the key and has not expired; counts a hit or a miss."""

    async def keep(self, key: str, value: bytes) -> None: ...

    async def clear(self) -> None:
        """Forget all results of this service, and nothing else that is in the same store."""

    async def stats(self) -> CacheStats: ...
