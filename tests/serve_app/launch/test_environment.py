import os
import re
import stat
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from serve_app.launch.environment import (
    HAPROXY_DIR,
    HARD_STOP_MARGIN_S,
    MAX_RUNTIME_DIR_CHARS,
    RayEnvironment,
    loopback_haproxy,
    make_runtime_dir,
    memory_dir,
    remove_runtime_dir,
)


def test_the_folder_is_private_short_and_removed() -> None:
    path = make_runtime_dir()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert len(str(path)) <= MAX_RUNTIME_DIR_CHARS
        assert (path / HAPROXY_DIR).is_dir()
    finally:
        remove_runtime_dir(path)
    assert not path.exists()
    remove_runtime_dir(path)


def test_a_long_temporary_folder_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Socket paths below it would not fit."""
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    path = make_runtime_dir()
    try:
        assert path.parent == Path("/tmp")
        assert not list(long.iterdir())
    finally:
        remove_runtime_dir(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs GNU sed")
def test_haproxy_gets_its_statistics_ports_on_loopback(tmp_path: Path) -> None:
    (tmp_path / HAPROXY_DIR).mkdir()
    script = loopback_haproxy(tmp_path, Path("/bin/echo"), 8404, 9101)
    assert script is not None
    config = tmp_path / "haproxy.cfg"
    config.write_text("    bind :9101\n    bind 127.0.0.1:8000\n  bind *:8404\n  bind *:84040\n")
    answer = subprocess.run([script, "-db", "-f", config, "-sf", "1"], capture_output=True, text=True)
    assert answer.stdout == f"-db -f {config} -sf 1\n"
    assert config.read_text() == (
        "    bind 127.0.0.1:9101\n    bind 127.0.0.1:8000\n  bind 127.0.0.1:8404\n  bind *:84040\n"
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs GNU sed")
def test_haproxy_writes_no_addresses_into_the_systems_log(tmp_path: Path) -> None:
    (tmp_path / HAPROXY_DIR).mkdir()
    script = loopback_haproxy(tmp_path, Path("/bin/true"), 8404, 9101)
    assert script is not None
    config = tmp_path / "haproxy.cfg"
    spec = find_spec("ray")  # not imported: it reads its environment
    assert spec is not None
    assert spec.origin is not None
    template = (Path(spec.origin).parent / "serve" / "_private" / "haproxy_templates.py").read_text()
    config.write_text(template)
    assert "local0 info" in template
    subprocess.run([script, "-f", config], check=True)
    left = [line for line in config.read_text().splitlines() if re.match(r" *log [^g]", line)]
    assert all("metrics_socket" in line for line in left)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no file system in memory")
def test_the_folder_in_memory_goes_with_the_runtime_folder() -> None:
    path = make_runtime_dir()
    in_memory = memory_dir(path)
    assert in_memory is not None
    in_memory.mkdir()
    (in_memory / "spilled").write_bytes(b"audio")
    remove_runtime_dir(path)
    assert not in_memory.exists()


def test_haproxy_names_its_clients_once_however_often_it_starts(tmp_path: Path) -> None:
    (tmp_path / HAPROXY_DIR).mkdir()
    script = loopback_haproxy(tmp_path, Path("/bin/true"), 8404, 9101)
    assert script is not None
    config = tmp_path / "haproxy.cfg"
    config.write_text("defaults\n    mode http\nfrontend http_frontend\n    bind 127.0.0.1:8000\n")
    for _ in range(2):
        subprocess.run([script, "-f", config], check=True)
    lines = config.read_text().splitlines()
    assert lines.index("    timeout http-request 15s") == 1
    assert lines.count("    timeout http-request 15s") == 1
    assert lines.count("    option forwardfor") == 1
    assert lines.count("    http-request del-header sec-websocket-extensions") == 1


ENVIRONMENT = RayEnvironment(
    runtime_dir=Path("/tmp/run"),
    source_dir=Path("/checkout"),
    stats_port=1,
    metrics_port=2,
    fallback_port=3,
    auth_token="secret",
    max_session_s=7200,
    haproxy_binary=Path("/tmp/run/ha/haproxy"),
)


def test_every_variable_is_one_that_this_ray_reads() -> None:
    """A name that Ray renamed would be ignored in silence."""
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    files = [
        package / "serve/_private/constants.py",
        package / "_private/authentication_test_utils.py",
        package / "_common/usage/usage_constants.py",
        package / "_private/ray_constants.py",
    ]
    known = set(re.findall(r"RAY_[A-Za-z0-9_]+", "\n".join(path.read_text() for path in files)))
    ours = {name for name in ENVIRONMENT.variables() if name.startswith("RAY_")}
    assert ours <= known, ours - known


def test_haproxy_outlives_the_longest_session() -> None:
    value = int(ENVIRONMENT.variables()["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"])
    assert value == 7200 + HARD_STOP_MARGIN_S


def test_haproxy_keeps_to_the_private_folder() -> None:
    paths = [
        value
        for name, value in ENVIRONMENT.variables().items()
        if "HAPROXY" in name and name.endswith(("_LOC", "_PATH", "_BASE", "_FILE"))
    ]
    assert len(paths) == 6
    assert all((path + "/").startswith("/tmp/run/ha/") for path in paths)


def test_the_users_own_values_win() -> None:
    merged = ENVIRONMENT.merged({"RAY_SERVE_HAPROXY_NBTHREAD": "4", "OMP_NUM_THREADS": ""})
    assert "RAY_SERVE_HAPROXY_NBTHREAD" not in merged
    assert merged["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("environ", "has_token"),
    [
        ({}, True),
        ({"RAY_AUTH_MODE": "disabled"}, False),
        ({"RAY_AUTH_MODE": "token"}, True),
        ({"RAY_AUTH_TOKEN_PATH": "/etc/token"}, False),
        ({"RAY_AUTH_TOKEN": "mine"}, False),
    ],
)
def test_a_token_is_made_only_where_one_is_needed(environ: dict[str, str], has_token: bool) -> None:
    assert ("RAY_AUTH_TOKEN" in ENVIRONMENT.merged(environ)) is has_token


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "/checkout"),
        ("/mine", f"/checkout{os.pathsep}/mine"),
        (f"/mine{os.pathsep}/checkout", None),
    ],
)
def test_replicas_can_import_the_checkout(before: str, after: str | None) -> None:
    assert ENVIRONMENT.merged({"PYTHONPATH": before}).get("PYTHONPATH") == after
