"""A job store of each kind, empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fakes.database_servers import missing_server, postgresql_server, redis_server
from serve_app.jobs.opening import open_store
from serve_app.jobs.store import JobStore


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Any]]:
    """Addresses of servers by kind, started when they are first asked for."""
    with ExitStack() as running:
        yield {"running": running}


def address_of(kind: str, servers: dict[str, Any], folder: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder / 'jobs.db'}"
    if (reason := missing_server(kind)) is not None:
        pytest.skip(reason)
    if kind not in servers:
        start = {"postgresql": postgresql_server, "redis": redis_server}[kind]
        servers[kind] = servers["running"].enter_context(start())
    return str(servers[kind])


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def store_address(request: pytest.FixtureRequest, servers: dict[str, Any], tmp_path: Path) -> str:
    address = address_of(request.param, servers, tmp_path)
    if request.param == "redis":
        from redis import Redis

        with Redis.from_url(address) as redis:
            redis.flushdb()
    elif request.param == "postgresql":
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
