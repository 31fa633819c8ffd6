"""deploy/docker/healthcheck.py, run as a container runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
from healthcheck import address, main
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from fakes.app_server import running_app
from serve_app.launch.certificates import self_signed
from serve_app.launch.cluster import free_ports
from serve_app.launch.edge import Edge
from serve_app.launch.edge_config import EdgeOptions
from serve_app.launch.environment import make_runtime_dir, remove_runtime_dir
from serve_app.settings import read_settings

SCRIPT = Path(__file__).parents[2] / "deploy" / "docker" / "healthcheck.py"


def app(status):
    async def ready(_):
        return Response(status_code=status)

    return Starlette(routes=[Route("/health/ready", ready)])


def status_of(environ, *arguments):
    command = [sys.executable, "-I", "-S", SCRIPT, *arguments]
    return subprocess.run(command, env=environ, timeout=60, capture_output=True).returncode


@pytest.mark.parametrize(("answer", "status"), [(200, 0), (503, 1), (404, 1)])
def test_it_says_whether_the_service_takes_requests(answer, status):
    with running_app(app(answer)) as port:
        assert status_of({"STT_PORT": str(port)}) == status


def test_nobody_there_is_unhealthy():
    assert status_of({"STT_PORT": str(free_ports(1)[0])}) == 1


def test_it_waits_as_long_as_it_is_told_to():
    port = free_ports(1)[0]
    assert main(["--wait", "0.1"], {"STT_PORT": str(port)}) == 1


def test_it_does_not_wait_for_a_process_that_has_ended():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    environ = {"STT_PORT": str(free_ports(1)[0])}
    assert status_of(environ, "--wait", "600", "--pid", str(ended.pid)) == 1


def test_behind_tls_it_asks_with_tls(tmp_path):
    files = self_signed(tmp_path)
    runtime_dir = make_runtime_dir()
    with running_app(app(200)) as service_port:
        port = free_ports(1)[0]
        edge = Edge(EdgeOptions(files, tmp_path, 60, 3600), "127.0.0.1", port, service_port, lambda _: None)
        try:
            edge.start(runtime_dir / "edge")
            assert main([], {"STT_PORT": str(port), "STT_TLS_SELF_SIGNED": "true"}) == 0
            assert main([], {"STT_PORT": str(port)}) == 1
        finally:
            edge.stop()
            remove_runtime_dir(runtime_dir)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"STT_PORT": "9000"},
        {"BIND_PORT": "9001"},
        {"API_PORT": "9002"},
        {"STT_PORT": "1", "API_PORT": "2"},
    ],
)
def test_the_port_is_the_one_that_the_settings_make_of_the_same_variables(environ, monkeypatch):
    for name in ("STT_PORT", "BIND_PORT", "API_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert address(environ)[0] == read_settings(flags={})[0].port


def test_tls_is_found_out_by_either_setting():
    assert address({"STT_TLS_CERT": "/tls/chain.pem"})[1]
    assert address({"STT_TLS_SELF_SIGNED": "True"})[1]
    assert not address({"STT_TLS_SELF_SIGNED": "false", "STT_TLS_CERT": ""})[1]
