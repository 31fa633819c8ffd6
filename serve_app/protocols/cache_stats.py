"""Bodies of `GET /stats` and `DELETE /cache`."""

from __future__ import annotations

from typing import Annotated, Literal

from serve_app.cache.ports import CacheStats
from sotto_client.wire import Written, means


class CacheFigures(Written, frozen=True, kw_only=True):
    """The result cache of the cluster, since its process started."""

    hits: int
    misses: int
    hit_rate: Annotated[float, means("Hits over lookups, 0 to 1.")]
    enabled: bool
    type: Annotated[str | None, means("Where results are: `memory`, `disk` or `redis`; null: nowhere.")]
    available: Annotated[bool, means("False: it does not answer now; uploads are transcribed without it.")]
    entries: Annotated[int | None, means("Null where it is not known, as in Redis.")]
    size_bytes: Annotated[int | None, means("Null where it is not known, as in Redis.")]


class Stats(Written, frozen=True, kw_only=True):
    """What the service counts of its result cache."""

    cache: CacheFigures


class CacheCleared(Written, frozen=True, kw_only=True):
    """No result is cached any more, on any replica."""

    status: Literal["cache cleared"] = "cache cleared"


def stats_body(kind: str | None, stats: CacheStats | None) -> Stats:
    """`kind` None: there is no cache. `stats` None: it does not answer."""
    known = stats or CacheStats()
    return Stats(
        cache=CacheFigures(
            hits=known.hits,
            misses=known.misses,
            hit_rate=round(known.hit_rate, 3),
            enabled=kind is not None,
            type=kind,
            available=stats is not None,
            entries=known.num_entries,
            size_bytes=known.num_bytes,
        )
    )
