import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from serve_app.launch.runtime_dir import (
    HAPROXY_DIR,
    MAX_RUNTIME_DIR_CHARS,
    loopback_haproxy,
    make_runtime_dir,
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
