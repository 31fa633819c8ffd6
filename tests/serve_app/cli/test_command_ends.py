"""Commands that are ended from outside, each in its own process: Ctrl-C, SIGTERM, a reader that leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from fakes.held_server import HeldServer, running_held_server
from fakes.speech_server import running_fake_server
from serve_app.launch.cluster import SOURCE_DIR

pytestmark = pytest.mark.slow

CLIP = SOURCE_DIR / "audio" / "spoken" / "visit.flac"
LIMIT_S = 120
"""Guards against hanging alone."""


@pytest.fixture
def held() -> Iterator[HeldServer]:
    with running_held_server() as server:
        yield server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


def heed_ctrl_c() -> None:
    """A shell lets what it runs in the background ignore Ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(*command: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=SOURCE_DIR,
        preexec_fn=heed_ctrl_c,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def sotto(*arguments: str, stdout: int = subprocess.PIPE) -> AbstractContextManager[subprocess.Popen[str]]:
    return started("-m", "serve_app.cli", *arguments, stdout=stdout)


def until(process: subprocess.Popen[str], wanted: str) -> None:
    """Read lines until one has `wanted` in it."""
    assert process.stdout is not None
    for line in process.stdout:
        if wanted in line:
            return
    raise AssertionError(f"ended without {wanted!r}: {process.communicate(timeout=LIMIT_S)}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status, the rest of what was said, and what was said to standard error."""
    out, errors = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, errors


def test_ctrl_c_in_a_live_session_still_shows_what_was_said(url: str) -> None:
    with sotto("live", str(CLIP), "--url", url) as process:
        until(process, "... hel")
        process.send_signal(signal.SIGINT)
        status, out, errors = ended(process)
    assert (status, errors) == (130, "")
    assert out.splitlines()[-1] == "[00:00.00] hello"


def test_ctrl_c_while_a_microphone_is_silent(url: str) -> None:
    with sotto("live", "-", "--sample-rate", "16000", "--url", url) as process:
        assert process.stdin is not None
        process.stdin.write("\0" * 3200)
        process.stdin.flush()
        until(process, "... hel")
        process.send_signal(signal.SIGINT)
        status = process.wait(LIMIT_S)  # its standard input is still open
        _, out, errors = ended(process)
    assert (status, errors) == (130, "")
    assert out.splitlines()[-1] == "[00:00.00] hello"


def test_a_second_ctrl_c_ends_a_session_that_is_waited_for(held: HeldServer) -> None:
    with sotto("live", str(CLIP), "--url", held.url) as process:
        until(process, "hello")
        process.send_signal(signal.SIGINT)
        assert held.asked_to_end.wait(LIMIT_S)
        process.send_signal(signal.SIGINT)
        status, _, errors = ended(process)
    assert (status, errors) == (130, "")


def test_sigterm_in_a_live_session(held: HeldServer) -> None:
    with sotto("live", str(CLIP), "--url", held.url) as process:
        until(process, "hello")
        process.send_signal(signal.SIGTERM)
        status, _, errors = ended(process)
    assert (status, errors) == (143, "")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_upload_is_given_up(held: HeldServer, number: signal.Signals, expected: int) -> None:
    with sotto("transcribe", str(CLIP), str(CLIP), "--url", held.url) as process:
        assert held.uploaded.wait(LIMIT_S)
        process.send_signal(number)
        assert ended(process) == (expected, "", "")


def test_a_reader_that_leaves_a_live_session(url: str) -> None:
    with sotto("live", str(CLIP), "--url", url, "--speed", "20") as process:
        until(process, "... hel")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(LIMIT_S) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "arguments",
    [["transcribe", str(CLIP), str(CLIP)], ["doctor", "--no-measure"], ["models", "list"], ["--version"]],
)
def test_a_reader_that_left(url: str, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    flags = ["--url", url] if arguments[0] == "transcribe" else []
    with sotto(*arguments, *flags, stdout=writing) as process:
        os.close(writing)
        assert process.wait(LIMIT_S) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


STREAM_FILE = """
from pathlib import Path
from sotto_client.blocking import stream_file
for message in stream_file(Path({path!r}), url={url!r}):
    print(type(message).__name__, flush=True)
"""
MICROPHONE = """
import threading
from sotto_client.blocking import stream_audio
def silent():
    yield bytes(3200)
    threading.Event().wait()
for message in stream_audio(silent(), url={url!r}):
    print(type(message).__name__, flush=True)
"""
ASYNC_STREAM_FILE = """
import asyncio
from pathlib import Path
from sotto_client import stream_file
async def main():
    async for message in stream_file({url!r}, Path({path!r})):
        print(type(message).__name__, flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [STREAM_FILE, MICROPHONE, ASYNC_STREAM_FILE])
def test_ctrl_c_in_a_program_is_a_keyboard_interrupt_and_nothing_else(held: HeldServer, program: str) -> None:
    with started("-c", program.format(path=str(CLIP), url=held.url)) as process:
        until(process, "FinalTranscript")
        process.send_signal(signal.SIGINT)
        status, _, errors = ended(process)
    assert status == -signal.SIGINT  # 130 in a shell
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert "RuntimeError" not in errors
    assert "never retrieved" not in errors
