"""The store that an address names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from serve_app.jobs.store import JobStore

REDIS_SCHEMES = ("redis", "rediss", "unix")
SQL_SCHEMES = ("sqlite", "postgresql", "postgres")


def database_address(jobs_database: str | None, redis_url: str | None, folder: Path) -> str:
    """Where jobs are kept: as `jobs_database` says, else in Redis where there is one, else in a file in
    `folder`. Raises `ValueError` for a scheme that no store is for."""
    address = jobs_database or redis_url or f"sqlite:///{folder / 'jobs.db'}"
    scheme = urlsplit(address).scheme.partition("+")[0]
    if scheme not in REDIS_SCHEMES + SQL_SCHEMES:
        known = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME or redis://HOST/NUMBER"
        raise ValueError(f"jobs_database: {scheme!r} is no scheme of a store: expected {known}")
    return address


def open_store(address: str) -> JobStore:
    """Connect, and make the tables where they are missing. Blocking; raises what the driver raises, and
    `ModuleNotFoundError` where PostgreSQL's (`psycopg`) is not installed."""
    scheme, _, rest = address.partition("://")
    if scheme in REDIS_SCHEMES:
        from serve_app.jobs.redis_store import RedisStore

        return RedisStore(address)
    from serve_app.jobs.sql_store import SqlStore

    if scheme in ("postgres", "postgresql"):
        address = f"postgresql+psycopg://{rest}"
    return SqlStore(address)
