"""The service behind the doors under test, and what the browser tests of the live page share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def port(service: FakeService) -> Iterator[int]:
    with running_app(create_app(service, FakeSettings(idle_timeout_s=120.0))) as port:
        yield port


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    """A browser's, that says nothing."""
    return tmp_path / "none.wav"
