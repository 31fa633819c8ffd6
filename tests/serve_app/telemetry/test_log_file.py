"""The log file under rotation, by signal and without one; several writers; a disk that takes nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from serve_app.telemetry.log_file import LogFile

CHECKOUT = Path(__file__).parents[3]


def logged(handler: LogFile, *messages: str) -> None:
    for message in messages:
        handler.emit(logging.LogRecord("a", logging.INFO, "f", 1, message, None, None))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sotto.log"


@pytest.fixture
def file(path):
    handler = LogFile(path)
    yield handler
    handler.close()


def test_lines_are_appended_in_order(path, file):
    path.write_text("before\n")
    logged(file, *(str(number) for number in range(1_000)))
    file.flush()
    assert path.read_text().splitlines() == ["before", *(str(number) for number in range(1_000))]


def test_a_rotated_file_is_left_without_being_told(path, file):
    logged(file, "old")
    file.flush()
    path.rename(path.with_suffix(".1"))
    logged(file, "new")
    file.close()
    assert path.with_suffix(".1").read_text() == "old\n"
    assert path.read_text() == "new\n"


def test_reopening_makes_the_file_again_before_a_line_comes(path, file):
    logged(file, "old")
    file.flush()
    path.unlink()
    file.reopen()
    assert path.read_text() == ""


def test_what_could_not_be_written_is_counted_and_said(tmp_path):
    path = tmp_path / "later" / "sotto.log"
    handler = LogFile(path)
    logged(handler, "one", "two")
    handler.reopen()
    path.parent.mkdir()
    logged(handler, "three")
    handler.close()
    lost, third = path.read_text().splitlines()
    assert json.loads(lost) == {"event": "log lines lost", "level": "error", "num_lines": 2}
    assert third == "three"


def test_others_may_read_only_where_they_are_of_the_group(path, file):
    file.reopen()
    assert path.stat().st_mode & 0o137 == 0


def test_two_writers_mix_no_lines(path):
    handlers = [LogFile(path), LogFile(path)]
    messages = [letter * 4_000 for letter in "ab"]
    threads = [
        threading.Thread(target=logged, args=(handler, *[message] * 200))
        for handler, message in zip(handlers, messages, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for handler in handlers:
        handler.close()
    lines = path.read_text().splitlines()
    assert [lines.count(message) for message in messages] == [200, 200]
    assert len(lines) == 400


SERVER = """
import sys, threading
from pathlib import Path
import structlog
from serve_app.cli.serving import listen_to_signals, wait_until
from serve_app.telemetry.logs import configure_logs

configure_logs("INFO", file=Path(sys.argv[1]))
stop, hung_up = threading.Event(), threading.Event()
listen_to_signals(stop, hung_up)
structlog.get_logger("test").info("started")
print("ready", flush=True)
wait_until(stop, hung_up, step_s=0.01)
structlog.get_logger("test").info("stopped")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_a_real_sighup_opens_the_file_anew(path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path)],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        rotated = path.with_suffix(".log.1")
        wait_for(lambda: path.exists() and "started" in path.read_text())
        path.rename(rotated)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: path.exists() and "opened anew" in path.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events == ["log file opened anew", "stopped"]
    assert [json.loads(line)["event"] for line in rotated.read_text().splitlines()] == ["started"]


def wait_for(holds) -> None:
    deadline_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
