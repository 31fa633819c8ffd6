"""`sotto transcribe` and `sotto live`: several recordings, standard input, addresses, keys, whole lines."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import serve_app
from fakes.held_server import HeldServer, running_held_server
from fakes.speech_server import running_fake_server
from serve_app.cli.app import app
from serve_app.launch.cluster import SOURCE_DIR

pytestmark = pytest.mark.slow

CLIP = SOURCE_DIR / "audio" / "spoken" / "short_1.flac"
SRT = "1\n00:00:00,000 --> 00:00:01,000\nhello\n"
KEY = "k3y-that-stays-secret"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


@pytest.fixture
def held() -> Iterator[HeldServer]:
    with running_held_server() as server:
        server.released.set()
        yield server


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder with two recordings of one name, and no settings but those of the test."""
    for name in ("STT_SERVICE_URL", "WHISPER_SERVICE_URL", "STT_API_KEY", "API_KEY", "WHISPER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for place in ("monday", "tuesday"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "visit.flac").write_bytes(CLIP.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env=environ)
    return result.exit_code, result.stdout, result.stderr


def piped(data: bytes, *arguments: str) -> tuple[int, str, str]:
    """A process with `data` on its standard input."""
    command = [sys.executable, "-m", "serve_app.cli", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# -- several recordings ------------------------------------------------------------------------------


def test_subtitles_of_several_recordings_are_a_file_each(url: str, folder: Path) -> None:
    files = ["monday/visit.flac", "tuesday/visit.flac"]
    status, out, errors = run("transcribe", *files, "--url", url, "--format", "srt")
    assert (status, out) == (0, "")
    assert errors.split() == ["visit.srt", "visit.flac.srt"]
    assert {path.name: path.read_text() for path in folder.glob("*.srt")} == {
        "visit.srt": SRT,
        "visit.flac.srt": SRT,
    }


@pytest.mark.parametrize(
    ("output_format", "name"), [("text", "visit.txt"), ("json", "visit.json"), ("srt", "visit.srt")]
)
def test_into_a_folder_that_is_made(url: str, folder: Path, output_format: str, name: str) -> None:
    flags = ("--url", url, "--format", output_format, "--output-dir", "out/here")
    status, out, _ = run("transcribe", "monday/visit.flac", *flags)
    assert (status, out) == (0, "")
    assert "hello" in (folder / "out" / "here" / name).read_text()


def test_a_file_that_exists_is_kept_unless_told_otherwise(url: str, folder: Path) -> None:
    flags = ("monday/visit.flac", "--url", url, "--format", "srt", "--output-dir", ".")
    (folder / "visit.srt").write_text("corrected by hand")
    status, _, errors = run("transcribe", *flags)
    assert status == 1
    assert "--overwrite" in errors
    assert (folder / "visit.srt").read_text() == "corrected by hand"
    assert run("transcribe", *flags, "--overwrite")[0] == 0
    assert (folder / "visit.srt").read_text() == SRT


def test_subtitles_of_one_recording_are_printed(url: str) -> None:
    assert run("transcribe", "monday/visit.flac", "--url", url, "--format", "srt") == (0, SRT, "")


def test_texts_have_their_recording_above_them(url: str) -> None:
    status, out, _ = run("transcribe", "monday/visit.flac", "tuesday/visit.flac", "--url", url)
    assert (status, out) == (0, "# monday/visit.flac\nhello\n# tuesday/visit.flac\nhello\n")


def test_what_is_missing_stops_none_of_the_others(url: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    status, out, errors = run("transcribe", "gone.wav", "empty", "monday/visit.flac", "--url", url)
    assert (status, out) == (1, "# monday/visit.flac\nhello\n")
    assert errors.splitlines() == [
        "error: gone.wav: no such file",
        "error: empty: is a folder",
        "error: 2 of 3 recordings failed",
    ]


# -- folders and patterns ----------------------------------------------------------------------------


def test_a_folder_stands_for_its_recordings(url: str, folder: Path) -> None:
    (folder / "monday" / "notes.md").write_text("no recording")
    status, out, _ = run("transcribe", ".", "--url", url)
    assert status == 0
    assert [line for line in out.splitlines() if line != "hello"] == [
        "# monday/visit.flac",
        "# tuesday/visit.flac",
    ]


def test_a_pattern_that_no_shell_has_expanded(url: str, folder: Path) -> None:
    (folder / "[1].flac").write_bytes(CLIP.read_bytes())
    assert run("transcribe", "*/visit.flac", "--url", url)[1].count("hello") == 2
    assert run("transcribe", "**/*.flac", "--url", url)[1].count("hello") == 3
    assert run("transcribe", "[1].flac", "--url", url)[:2] == (0, "hello\n")
    status, _, errors = run("transcribe", "*.mp3", "--url", url)
    assert (status, errors) == (1, "error: *.mp3: no such file\n")


def test_a_folders_texts_keep_their_places(url: str, folder: Path) -> None:
    assert run("transcribe", ".", "--url", url, "--output-dir", "out")[0] == 0
    assert sorted(
        path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*.txt")
    ) == [
        "monday/visit.txt",
        "tuesday/visit.txt",
    ]


def test_texts_beside_their_recordings(url: str, folder: Path) -> None:
    assert run("transcribe", "monday", "tuesday/visit.flac", "--url", url, "--beside")[:2] == (0, "")
    assert (folder / "monday" / "visit.txt").read_text() == "hello\n"
    assert (folder / "tuesday" / "visit.txt").read_text() == "hello\n"


def test_a_run_that_was_stopped_goes_on(url: str, folder: Path) -> None:
    flags = (".", "--url", url, "--output-dir", "out", "--resume")
    assert run("transcribe", *flags)[0] == 0
    (folder / "out" / "monday" / "visit.txt").write_text("as it was")
    (folder / "out" / "tuesday" / "visit.txt").unlink()
    status, _, errors = run("transcribe", *flags)
    assert status == 0
    assert errors.splitlines() == ["out/tuesday/visit.txt", "1 of 2 were there already"]
    assert (folder / "out" / "monday" / "visit.txt").read_text() == "as it was"
    assert not list((folder / "out").rglob("*.part"))


@pytest.mark.parametrize(
    "flags",
    [
        ("--resume",),
        ("--resume", "--overwrite", "--beside"),
        ("--beside", "--output-dir", "x"),
    ],
)
def test_flags_that_exclude_each_other(url: str, flags: tuple[str, ...]) -> None:
    assert run("transcribe", "monday", "--url", url, *flags)[0] == 2


def test_damaged_audio_is_said_and_has_a_status(url: str, folder: Path) -> None:
    (folder / "cut.flac").write_bytes(b"damaged")
    status, out, errors = run("transcribe", "cut.flac", "monday/visit.flac", "--url", url, "--format", "json")
    assert status == 3
    assert len(out.splitlines()) == 2
    assert errors == "warning: cut.flac: the last second is missing\n"
    assert run("transcribe", "cut.flac", "gone.flac", "--url", url, "--format", "json")[0] == 1


# -- standard input ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_recording_from_standard_input(url: str) -> None:
    status, out, errors = piped(CLIP.read_bytes(), "transcribe", "-", "--url", url, "--format", "json")
    assert (status, errors) == (0, "")
    assert json.loads(out)["num_bytes"] == CLIP.stat().st_size


@pytest.mark.slow
def test_a_container_live_from_standard_input(url: str) -> None:
    status, out, errors = piped(CLIP.read_bytes(), "live", "-", "--url", url)
    assert (status, errors) == (0, "")
    assert "... hel" in out
    assert out.endswith("[00:00.00] hello\n")


@pytest.mark.slow
def test_raw_samples_live_from_standard_input(url: str) -> None:
    status, out, _ = piped(bytes(3201), "live", "-", "--sample-rate", "16000", "--url", url)
    assert (status, out.splitlines()[-1]) == (0, "[00:00.00] hello")


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", bytes(3200), b"no audio in here"])
def test_standard_input_that_is_no_container(url: str, data: bytes) -> None:
    status, _, errors = piped(data, "live", "-", "--url", url)
    assert status == 1
    assert errors.startswith("error: ")
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["live", "transcribe"])
def test_a_terminal_is_no_audio(command: str) -> None:
    keyboard, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "serve_app.cli", command, "-"],
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=120,
    )
    os.close(keyboard)
    os.close(terminal)
    assert done.returncode == 2
    assert "is a terminal" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["transcribe", "-", "-"], "give - once"),
        (["live", "-", "--speed", "2"], "sent as it comes"),
        (["live", "visit.flac", "--sample-rate", "8000"], "a recording says its own"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], expected: str) -> None:
    status, _, errors = run(*arguments)
    assert status == 2
    assert expected in errors


# -- addresses and keys ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/ws/stt", "/transcribe/stream/"])
@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("command", ["transcribe", "live"])
def test_addresses_as_people_have_them(url: str, scheme: str, path: str, command: str) -> None:
    address = url.replace("http", scheme) + path
    flags = ["--speed", "50"] if command == "live" else []
    status, out, _ = run(command, str(CLIP), "--url", address, *flags)
    assert status == 0
    assert "hello" in out


@pytest.mark.parametrize(
    "address", ["ftp://here", "http://here:port", "http://here:99999", "http://[::1", "//"]
)
@pytest.mark.parametrize("command", ["transcribe", "live"])
def test_what_is_no_address_is_a_usage_error(address: str, command: str) -> None:
    status, _, errors = run(command, str(CLIP), "--url", address)
    assert status == 2
    assert "no server address" in errors


def test_the_address_and_the_key_come_from_settings(held: HeldServer) -> None:
    """A setting of the service that is wrong is not the client's business."""
    environ = {"STT_SERVICE_URL": held.url, "STT_API_KEY": KEY, "STT_DEVICE": "toaster"}
    status, out, errors = run("transcribe", str(CLIP), **environ)
    assert (status, out, errors) == (0, "hello\n", "")
    assert run("transcribe", str(CLIP), "--api-key", "another", **environ)[0] == 0
    assert held.keys == [f"Bearer {KEY}", "Bearer another"]
    status, _, errors = run("transcribe", str(CLIP), "--url", "http://127.0.0.1:9", **environ)
    assert status == 1
    assert KEY not in errors


def test_the_key_goes_with_a_live_session(held: HeldServer) -> None:
    held.ends = True
    status, out, errors = run("live", str(CLIP), "--speed", "50", STT_SERVICE_URL=held.url, STT_API_KEY=KEY)
    assert (status, errors, held.keys) == (0, "", [f"Bearer {KEY}"])
    assert KEY not in out


@pytest.mark.parametrize("command", ["transcribe", "live"])
def test_a_key_that_no_header_carries_is_refused_unseen(command: str) -> None:
    status, out, errors = run(command, str(CLIP), "--api-key", f"{KEY}\nX-Other: \u2026")
    assert status == 2
    assert "header" in errors
    assert KEY not in out + errors


def test_a_password_in_the_address_is_not_shown() -> None:
    for command in ("transcribe", "live"):
        status, out, errors = run(command, str(CLIP), "--url", f"http://ward:{KEY}@127.0.0.1:9")
        assert status == 1
        assert "127.0.0.1:9" in errors
        assert KEY not in out + errors


# -- what is printed ---------------------------------------------------------------------------------


def test_the_version() -> None:
    assert run("--version") == (0, f"sotto {serve_app.__version__}\n", "")


def test_a_long_path_is_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    deep = folder / ("a-long-name-" * 12) / ("b-long-name-" * 12)
    monkeypatch.setenv("STT_MODEL", str(deep))
    monkeypatch.setenv("STT_OFFLINE", "true")
    monkeypatch.setenv("COLUMNS", "40")
    for arguments in (
        ["doctor"],
        ["transcribe", str(deep)],
        ["live", str(deep)],
        ["models", "info", str(deep)],
    ):
        _, out, errors = run(*arguments)
        assert any(str(deep) in line for line in (out + errors).splitlines()), arguments
