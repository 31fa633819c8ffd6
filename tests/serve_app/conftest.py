"""Folders of real models, and database servers; skipped, with the reason, where they are not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.database_servers import postgresql_server, redis_server
from serve_app.core.errors import ModelUnavailable
from serve_app.models import resolve_model


def _folder(name: str) -> Path:
    try:
        return resolve_model(name, offline=True).path
    except ModelUnavailable as error:
        pytest.skip(f"the model {name} is not installed: {error}")


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return _folder("tiny.en")


@pytest.fixture(scope="session")
def base_folder() -> Path:
    return _folder("base")


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url
