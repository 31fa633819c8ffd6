"""What the doors of every ingress replica ask of the one cache of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol


class CacheLost(Exception):
    """The cache does not answer; the work goes on without it."""


CLAIM_S: Final = 15.0
"""For so long a process that computes a result may be silent: it is taken for dead then."""


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


@dataclass(frozen=True, slots=True)
class Looked:
    """`value`: what was kept. Without one, `claimed`: another process is computing it, ask again. Otherwise
    it is the asker's to compute: to `renew` meanwhile, and to `keep` or `release` in the end."""

    value: bytes | None = None
    claimed: bool = False


class ResultStore(Protocol):
    """Results by key, opaque here. Every method raises `CacheLost`."""

    async def look_up(self, key: str) -> Looked:
        """What was kept under the key and has not expired; counts a hit or a miss. Waits for a while where
        another process is computing it."""

    async def keep(self, key: str, value: bytes) -> None: ...

    async def renew(self, key: str) -> None:
        """It is still being computed: due every third of `CLAIM_S`."""

    async def release(self, key: str) -> None:
        """It is not going to be kept: someone else may compute it."""

    async def clear(self, prefix: str = "") -> int:
        """Forget all results of this service whose keys begin so, and nothing else that is in the same store;
        their number."""

    async def stats(self) -> CacheStats: ...
