"""A job store of each kind, empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.jobs.opening import open_store
from serve_app.jobs.store import JobStore


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    address: str = request.getfixturevalue(f"{request.param}_url")
    if request.param == "redis":
        from redis import Redis

        with Redis.from_url(address) as redis:
            redis.flushdb()
    else:
        import psycopg

        with psycopg.connect(address, autocommit=True) as database:
            database.execute("DROP SCHEMA public CASCADE")
            database.execute("CREATE SCHEMA public")
    return address


@pytest.fixture
def store(store_address: str) -> Iterator[JobStore]:
    opened = open_store(store_address)
    yield opened
    opened.close()
