"""Every program in examples/: those that need nothing but a server run, the others compile."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "examples"
CLIP = CHECKOUT / "audio" / "spoken" / "short_1.flac"
MIN_NODE = 20
LIMIT_S = 120


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_app(create_app(FakeService(), FakeSettings(max_file_size_mb=8.0))) as port:
        yield f"http://127.0.0.1:{port}"


def output_of(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_file_live(url: str) -> None:
    lines = output_of(sys.executable, FOLDER / "live_file.py", CLIP, url, "50").splitlines()
    assert any(line.startswith("... ") for line in lines)
    assert re.match(r" +\d+\.\d\d s  \w", lines[-1])


def test_subtitles(url: str) -> None:
    assert " --> " in output_of(sys.executable, FOLDER / "subtitles.py", CLIP, url)


def test_without_a_server_an_example_says_so_in_one_line() -> None:
    command = [sys.executable, str(FOLDER / "subtitles.py"), str(CLIP), "http://127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 1
    assert done.stderr.startswith("No server answers at http://127.0.0.1:1/transcribe")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_uploads_with_curl(url: str) -> None:
    upload, *lines = output_of("bash", FOLDER / "upload.sh", CLIP, url).splitlines()
    assert '"transcript"' in upload
    assert '"session_ended"' in lines[-1]


def test_live_from_node(url: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    version = int(output_of(node, "--version").strip().lstrip("v").partition(".")[0]) if node else 0
    if node is None or version < MIN_NODE:
        pytest.skip(f"no node of version {MIN_NODE} or later")
    flags = [] if version >= 22 else ["--experimental-websocket"]
    wav = tmp_path / "second.wav"
    wav.write_bytes(bytes(44) + b"\x10\x00" * 16_000)
    *_, last = output_of(node, *flags, FOLDER / "live.mjs", wav, url).splitlines()
    assert re.match(r"0\.00 \w", last)


@pytest.mark.extras
@pytest.mark.skipif(find_spec("livekit") is None, reason="livekit-agents is not installed")
def test_the_agent_can_be_started() -> None:
    assert "Usage" in output_of(sys.executable, FOLDER / "livekit_agent.py", "--help")


def test_every_example_is_in_the_list() -> None:
    listed = set(re.findall(r"^\| `([\w.]+)", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.name for path in FOLDER.iterdir() if path.is_file()} - {"README.md"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_python_examples_compile(path: Path) -> None:
    compile(path.read_text(), path, "exec")
