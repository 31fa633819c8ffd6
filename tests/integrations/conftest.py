"""All doors over a scripted service on a loopback port, for other people's clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSession, FakeSettings
from serve_app.web.app import create_app

SPEECH = np.random.default_rng(0).integers(-8000, 8000, 16_000).astype(np.int16)
"""One second that no voice detector takes for silence."""


@dataclass
class Doors:
    """A server's port, and its scripted sessions, which the test may move from its own thread."""

    port: int
    service: FakeService
    server_loop: list[asyncio.AbstractEventLoop]

    def url(self, scheme: str, path: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    @property
    def session(self) -> FakeSession:
        return self.service.sessions[-1]

    def do(self, action: Callable[[], None]) -> None:
        """Run it where the server runs."""
        self.server_loop[-1].call_soon_threadsafe(action)


@pytest.fixture
def doors(request: pytest.FixtureRequest) -> Iterator[Doors]:
    """Skips where the app has not the door that the test's `door` marker names."""
    service = FakeService()
    loops: list[asyncio.AbstractEventLoop] = []
    service.on_open = lambda _: loops.append(asyncio.get_running_loop())
    app = create_app(service, FakeSettings())
    path = request.param
    if path not in {getattr(route, "path", "") for route in app.routes}:
        pytest.skip(f"door not built: {path}")
    with running_app(app) as port:
        yield Doors(port, service, loops)


def door(path: str) -> pytest.MarkDecorator:
    """The test needs the door at `path`."""
    return pytest.mark.parametrize("doors", [path], indirect=True, ids=[""])
