"""What a door hears of its client through the HAProxy that Serve starts, with its real binary; no Ray."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fakes.app_server import running_app
from serve_app.access.addresses import AddressRules
from serve_app.launch import environment
from serve_app.launch.cluster import bundled_haproxy, free_ports
from serve_app.launch.environment import HAPROXY_DIR, loopback_haproxy
from serve_app.web.addresses import Addresses
from serve_app.web.callers import caller_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs GNU sed"),
]

# As `ray/serve/_private/haproxy_templates.py` writes it, as far as addresses go.
CONFIG = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend service
backend service
    server service 127.0.0.1:{service_port}
"""


async def told(request: Request) -> Response:
    way = request.headers.getlist("x-forwarded-for")
    return JSONResponse({"address": caller_of(request.scope).address, "way": way})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await Addresses(Route("/", told).app, AddressRules())(scope, receive, send)


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(environment, "HEADERS_TIMEOUT_S", 1)
    (port,) = free_ports(1)
    (tmp_path / HAPROXY_DIR).mkdir()
    script = loopback_haproxy(tmp_path, bundled_haproxy(), 1, 2)
    assert script is not None
    with running_app(app) as service_port:
        config = tmp_path / "haproxy.cfg"
        config.write_text(CONFIG.format(port=port, service_port=service_port))
        with subprocess.Popen([script, "-db", "-f", config]) as haproxy:
            yield port
            haproxy.terminate()


async def up(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                await asyncio.sleep(0.05)


async def test_the_proxy_says_who_asked_it_behind_what_the_client_claims(port: int) -> None:
    await up(port)
    claims = {"x-forwarded-for": "6.6.6.6, 198.51.100.1"}
    async with httpx.AsyncClient(trust_env=False) as client:
        plain = (await client.get(f"http://127.0.0.1:{port}/")).json()
        claimed = (await client.get(f"http://127.0.0.1:{port}/", headers=claims)).json()
    assert plain == {"address": "127.0.0.1", "way": ["127.0.0.1"]}
    # The nearest is this machine, where a proxy may run; what that says is believed, and nothing beyond it.
    assert claimed == {"address": "198.51.100.1", "way": ["6.6.6.6, 198.51.100.1", "127.0.0.1"]}


async def test_headers_that_trickle_are_given_up(port: int) -> None:
    await up(port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: here\r\nx-slow: ")
    async with asyncio.timeout(60):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408")
    writer.close()
