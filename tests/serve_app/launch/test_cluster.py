import os
import socket
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from serve_app.launch import cluster
from serve_app.launch.cluster import (
    ClusterOptions,
    LaunchError,
    RayCluster,
    free_ports,
    port_is_free,
    prefer_port,
    start_ray,
)


def test_a_failed_start_puts_the_environment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second start in the same process must not take the first one's folders for the user's own wish."""
    monkeypatch.setenv("RAY_ADDRESS", "203.0.113.1:6379")
    monkeypatch.setenv("RAY_SERVE_HAPROXY_NBTHREAD", "3")
    monkeypatch.delenv("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC", raising=False)
    seen: dict[str, str] = {}
    folders: list[Path] = []

    def fail(runtime_dir: Path, _: ClusterOptions) -> None:
        seen.update(os.environ)
        folders.append(runtime_dir)
        raise LaunchError("no")

    monkeypatch.setattr(cluster, "_init_local", fail)
    before = dict(os.environ)
    for _ in range(2):
        with pytest.raises(LaunchError, match="no"):
            start_ray(ClusterOptions())
        assert str(folders[-1]) in seen["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"]
        assert not folders[-1].exists()
    assert folders[0] != folders[1]
    assert seen["RAY_SERVE_HAPROXY_NBTHREAD"] == "3"
    assert "RAY_ADDRESS" not in seen
    changed = {name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)}
    assert changed <= {"RAY_CLIENT_MODE", "PYTHONBREAKPOINT"}


@pytest.mark.slow
def test_a_serve_that_has_read_its_environment_already_is_refused() -> None:
    """It would serve without HAProxy, and its nodes would not know the token."""
    lines = """
        import ray.serve
        from serve_app.launch.cluster import ClusterOptions, start_ray
        start_ray(ClusterOptions())
    """
    run = subprocess.run([sys.executable, "-c", dedent(lines)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "LaunchError: Ray Serve was imported before this start" in run.stderr


def test_stopping_twice_is_harmless() -> None:
    RayCluster(None, None).stop()


def test_ray_says_what_its_processes_complained_about(tmp_path: Path) -> None:
    logs = tmp_path / "session_2026" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.err").write_text("fine\nthe agent died\n")
    (logs / "gcs_server.err").write_text("")
    assert cluster._last_words(tmp_path) == "raylet.err: fine\nraylet.err: the agent died"


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(port_is_free(port) for port in ports)


def test_a_listening_port_is_taken_and_another_is_chosen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not port_is_free(port)
        assert prefer_port(port) != port
    assert prefer_port(port) == port
