"""The edge with its real HAProxy, in front of a small application; no Ray."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect

from fakes.app_server import running_app
from fakes.duplex_upload import curl_part_by_part, sizes_of_parts
from fakes.extended_connect import extended_connect
from serve_app.launch import edge as edge_module
from serve_app.launch.certificates import CertificateFiles, self_signed
from serve_app.launch.cluster import SOURCE_DIR, ClusterOptions, LaunchError, RayCluster, free_ports
from serve_app.launch.edge import Edge
from serve_app.launch.edge_config import EdgeOptions
from serve_app.launch.environment import make_runtime_dir, remove_runtime_dir
from serve_app.launch.keeper import start_keeper
from serve_app.launch.processes import processes_of
from serve_app.launch.serving import RunningService, start_service
from sotto_client.duplex_http import DuplexRequest, lines

pytestmark = pytest.mark.slow


async def headers(request: Request) -> Response:
    return JSONResponse(request.headers.items())


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_json(sorted(socket.headers.keys()))
    try:
        while True:
            await socket.send_bytes(await socket.receive_bytes())
    except WebSocketDisconnect:
        return


APP = Starlette(
    routes=[
        Route("/", headers),
        WebSocketRoute("/echo", echo),
        Route("/sizes", sizes_of_parts, methods=["POST"]),
    ]
)


@dataclass
class Front:
    """`said` is what the edge tells a person."""

    edge: Edge
    port: int
    runtime_dir: Path
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def trust(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.edge.files.cert))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def client(self, *, http2: bool = True) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self.trust(), http1=not http2, http2=http2, trust_env=False, base_url=self.url
        )


@contextmanager
def in_front_of(service_port: int, folder: Path) -> Iterator[Front]:
    runtime_dir = make_runtime_dir()
    port = free_ports(1)[0]
    said: list[str] = []
    files = CertificateFiles(folder / "cert.pem", folder / "key.pem")
    made = self_signed(folder)
    shutil.copy(made.cert, files.cert)
    shutil.copy(made.key, files.key)
    edge = Edge(EdgeOptions(files, folder, 60, 3600), "127.0.0.1", port, service_port, said.append)
    try:
        edge.start(runtime_dir / "edge")
        yield Front(edge, port, runtime_dir, said)
    finally:
        edge.stop()
        remove_runtime_dir(runtime_dir)


@pytest.fixture(scope="module")
def app_port() -> Iterator[int]:
    with running_app(APP) as port:
        yield port


@pytest.fixture(scope="module")
def front(app_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with in_front_of(app_port, tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture
def own_front(app_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """One that a test may spoil; it looks around often."""
    monkeypatch.setattr(edge_module, "POLL_INTERVAL_S", 0.02)
    monkeypatch.setattr(edge_module, "LOOK_INTERVAL_S", 0.05)
    with in_front_of(app_port, tmp_path) as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("h2", "http/1.1"), "h2"), (("http/1.1", "h2"), "h2"), (("http/1.1",), "http/1.1"), ((), None)],
)
async def test_the_protocol_is_negotiated(front: Front, offered: tuple[str, ...], chosen: str | None) -> None:
    _, writer = await asyncio.open_connection("localhost", front.port, ssl=front.trust(*offered))
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.transport.abort()


@pytest.mark.parametrize("http2", [False, True])
async def test_who_asks_is_said_by_the_edge_alone(front: Front, http2: bool) -> None:
    claims = {
        "Forwarded": "for=192.0.2.1",
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "bad.example",
        "X-Forwarded-Port": "1",
        "X-Request-ID": "visit-7",
    }
    async with front.client(http2=http2) as client:
        answer = await client.get("/", headers=claims)
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    seen = dict(answer.json())
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-request-id"] == "visit-7"
    assert not {"forwarded", "x-forwarded-host", "x-forwarded-port"} & set(seen)


async def test_websocket_over_http_1(front: Front) -> None:
    async with connect(f"wss://localhost:{front.port}/echo", ssl=front.trust(), proxy=None) as socket:
        assert "sec-websocket-extensions" not in json.loads(await socket.recv())
        for size in (1, 3200, 1_000_000):
            await socket.send(bytes(size))
            assert await socket.recv() == bytes(size)


async def test_websocket_over_http_2(front: Front) -> None:
    async with extended_connect(front.port, "/echo", front.trust("h2")) as socket:
        assert socket.status == "200"
        assert "x-forwarded-for" in json.loads(await socket.recv())
        for size in (1, 3200, 1_000_000):
            await socket.send(bytes(size))
            assert await socket.recv() == bytes(size)


async def test_lines_come_while_the_upload_goes_on(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(front.edge.files.cert))
    answered = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for size in (100, 200):
            yield bytes(size)
            await asyncio.wait_for(answered.wait(), 60)
            answered.clear()

    request = DuplexRequest(front.url + "/sizes", {"Content-Type": "audio/pcm"}, body())
    assert (await request.open()).status == 200
    received = []
    async for line in lines(request.chunks()):
        received.append(json.loads(line)["num_bytes"])
        answered.set()
    await request.close()
    assert received == [100, 200]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_lines_come_while_the_upload_goes_on_over_http_2(front: Front) -> None:
    options = ("--http2", "-w", "%{http_version}")
    url, cert = front.url + "/sizes", front.edge.files.cert
    assert await curl_part_by_part("curl", *options, url=url, cert=cert) == b"2"


async def test_a_renewed_certificate_is_shown_and_no_connection_is_cut(own_front: Front) -> None:
    files = own_front.edge.files
    url = f"wss://localhost:{own_front.port}/echo"
    async with connect(url, ssl=own_front.trust(), proxy=None) as socket:
        await socket.recv()
        pid = own_front.edge.pid
        before = served(own_front)
        renewed = self_signed(files.cert.parent / "renewed")
        os.replace(renewed.cert, files.cert)
        os.replace(renewed.key, files.key)
        await until(lambda: len(own_front.said) > 0)
        assert "was renewed" in own_front.said[0]
        assert served(own_front) == ssl.PEM_cert_to_DER_cert(files.cert.read_text()) != before
        await socket.send(b"still here")
        assert await socket.recv() == b"still here"
    assert own_front.edge.pid == pid
    async with own_front.client() as client:
        assert (await client.get("/")).status_code == 200

    own_front.said.clear()
    os.kill(pid or 0, signal.SIGKILL)
    await until(lambda: "the edge is back" in own_front.said)
    assert served(own_front) == ssl.PEM_cert_to_DER_cert(files.cert.read_text())


def served(front: Front) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("localhost", front.port)))


async def test_a_renewal_that_cannot_be_used_changes_nothing(own_front: Front) -> None:
    before = served(own_front)
    own_front.edge.files.cert.write_text("oops")
    await until(lambda: len(own_front.said) > 0)
    assert "is not used" in own_front.said[0]
    assert "no certificate in PEM format" in own_front.said[0]
    assert served(own_front) == before


async def test_a_killed_edge_comes_back(own_front: Front) -> None:
    first = own_front.edge.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: "the edge is back" in own_front.said)
    assert own_front.said[0] == "the edge ended with status -9; starting it again"
    assert own_front.edge.pid != first
    async with own_front.client() as client:
        assert (await client.get("/")).status_code == 200


async def test_draining_lets_what_is_open_go_on(own_front: Front) -> None:
    async with connect(f"wss://localhost:{own_front.port}/echo", ssl=own_front.trust(), proxy=None) as socket:
        await socket.recv()
        own_front.edge.drain()
        await until(lambda: not listens(own_front.port))
        await socket.send(b"last words")
        assert await socket.recv() == b"last words"
        own_front.edge.stop()
        assert processes_of(own_front.runtime_dir) == []
    assert own_front.said == []


def listens(port: int) -> bool:
    connections = psutil.net_connections("tcp")
    return any(item.laddr.port == port and item.status == psutil.CONN_LISTEN for item in connections)


async def test_the_process_is_known_by_its_folder_and_its_secrets_are_private(front: Front) -> None:
    assert [process.pid for process in processes_of(front.runtime_dir)] == [front.edge.pid]
    modes = {path.name: path.stat().st_mode & 0o077 for path in (front.runtime_dir / "edge").iterdir()}
    assert modes["site.pem"] == modes["admin.sock"] == 0
    assert (front.runtime_dir / "edge").stat().st_mode & 0o077 == 0


def test_the_keeper_ends_an_edge_whose_parent_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_module, "POLL_INTERVAL_S", 60)  # nobody looks after it any more
    with in_front_of(1, tmp_path) as front:
        keeper = start_keeper(front.runtime_dir, SOURCE_DIR)
        assert front.edge.pid is not None
        edge = psutil.Process(front.edge.pid)
        keeper.communicate(timeout=60)
        assert not edge.is_running() or edge.status() == psutil.STATUS_ZOMBIE
        assert not front.runtime_dir.exists()


async def test_a_service_that_is_gone_is_said_as_the_service_would(tmp_path: Path) -> None:
    with in_front_of(free_ports(1)[0], tmp_path) as front:
        async with front.client() as client:
            answer = await client.get("/", timeout=60)
    assert answer.status_code == 503
    assert answer.json() == {"detail": "The service is not reachable"}


def test_a_taken_port_is_said(tmp_path: Path, front: Front) -> None:
    edge = Edge(EdgeOptions(None, tmp_path, 60, 60), "127.0.0.1", front.port, 1, print)
    assert edge.is_self_signed
    runtime_dir = make_runtime_dir()
    try:
        with pytest.raises(LaunchError, match="Address already in use"):
            edge.start(runtime_dir / "edge")
        edge.stop()
        edge.stop()
        assert processes_of(runtime_dir) == []
    finally:
        remove_runtime_dir(runtime_dir)


def test_what_is_wrong_is_said_before_anything_listens(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises(LaunchError, match=r"TLS: the certificate .*cert.pem cannot be read"):
        Edge(EdgeOptions(files, tmp_path, 60, 60), "127.0.0.1", 1, 1, print)
    with pytest.raises(LaunchError, match="HAProxy cannot use"):
        Edge(EdgeOptions(None, tmp_path, 60, 60), "no-such-host.invalid", 1, 1, print)


@pytest.mark.parametrize(
    ("address", "says"), [("auto", "TLS needs a Ray of our own"), (None, "TLS: the certificate")]
)
def test_a_start_that_cannot_succeed_starts_no_ray(tmp_path: Path, address: str | None, says: str) -> None:
    options = EdgeOptions(CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem"), tmp_path, 60, 60)
    config = {"http_options": {"host": "127.0.0.1", "port": free_ports(1)[0]}, "applications": [{}]}
    said: list[str] = []
    with pytest.raises(LaunchError, match=says):
        start_service(config, cluster=ClusterOptions(address=address), edge=options, progress=said.append)
    assert said == []


def test_addresses_with_an_edge(front: Front) -> None:
    service = RunningService(RayCluster(None, None), "0.0.0.0", front.port, edge=front.edge)
    assert service.url == f"https://127.0.0.1:{front.port}"
    assert service.service_url == f"http://127.0.0.1:{front.edge.service_port}"
