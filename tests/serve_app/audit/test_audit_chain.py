"""The audit log as it is written, and that no change of it goes unseen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audit.chain import Chain
from serve_app.audit.erasure import erase
from serve_app.audit.folder import head_path, heads, segments
from serve_app.audit.lines import BadLine, Sums, decode_line, encode_line
from serve_app.audit.log import AuditLog
from serve_app.audit.retention import delete_expired
from serve_app.audit.verify import End, read_lines, verify

KEY = b"key of the audit log"
START = datetime(2026, 11, 30, 9, tzinfo=UTC)
WHO = {"key_id": "k1", "address": "10.0.0.9", "session_id": 'a","hash":"0'}


class Clock:
    def __init__(self, start: datetime = START) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


def write(chain: Chain, num_lines: int, who: dict[str, Any] | None = None) -> None:
    for number in range(num_lines):
        chain.append("request", {"door": "/ws/stt", "number": number, "hash": "x"}, who or WHO)
    chain.sync()


def written(folder: Path, *, key: bytes | None = KEY, num_lines: int = 6, max_bytes: int = 1_000) -> Chain:
    """A chain of several segments, closed; named after those that are there."""
    clock = Clock(START + timedelta(minutes=len(list(folder.iterdir()))))
    chain = Chain(folder, Sums(key), max_segment_bytes=max_bytes, now=clock)
    write(chain, num_lines)
    chain.close()
    return chain


@pytest.mark.parametrize("key", [KEY, None])
def test_what_was_written_verifies(tmp_path, key):
    chain = written(tmp_path, key=key)
    report = verify(tmp_path, key)
    assert (report.problems, report.notes) == ([], [])
    (told,) = report.chains
    assert (told.name, told.end) == (chain.name, End.CLOSED)
    numbers = [line.fields["number"] for _, line in read_lines(tmp_path, key) if line.kind == "request"]
    assert numbers == list(range(6))
    assert len(segments(tmp_path)) > 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*.jsonl"))


def test_another_key_is_named_once_a_segment(tmp_path):
    written(tmp_path)
    for other in (b"other", None):
        problems = verify(tmp_path, other).problems
        assert any("another key" in problem for problem in problems)


# -- tampering ---------------------------------------------------------------------------------------------


@contextmanager
def copied_log() -> Iterator[Path]:
    """Two chains: the first of several segments, the second of one."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        written(folder)
        written(folder, num_lines=2, max_bytes=100_000)
        yield folder


def log_files(folder: Path) -> list[Path]:
    return [segment.path for segment in segments(folder)]


@given(st.data())
def test_any_changed_byte_is_seen(data):
    with copied_log() as folder:
        path = data.draw(st.sampled_from([*log_files(folder), *sorted(folder.glob("*.head"))]))
        old = path.read_bytes()
        at = data.draw(st.integers(0, len(old) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda value: value != old[at]))
        path.write_bytes(old[:at] + bytes([byte]) + old[at + 1 :])
        if path.suffix == ".head" and same_json(path, old):
            return
        assert verify(folder, KEY).problems


def same_json(path: Path, old: bytes) -> bool:
    """White space at the end of a head is no part of it."""
    try:
        return json.loads(path.read_bytes()) == json.loads(old)
    except ValueError:
        return False


@given(st.data())
def test_any_missing_line_is_seen(data):
    with copied_log() as folder:
        path = data.draw(st.sampled_from(log_files(folder)))
        lines = path.read_bytes().splitlines(keepends=True)
        del lines[data.draw(st.integers(0, len(lines) - 1))]
        path.write_bytes(b"".join(lines))
        assert verify(folder, KEY).problems


@given(st.data())
def test_any_cut_end_is_seen(data):
    with copied_log() as folder:
        path = data.draw(st.sampled_from(log_files(folder)))
        size = path.stat().st_size
        os.truncate(path, data.draw(st.integers(0, size - 1)))
        assert verify(folder, KEY).problems


@given(st.data())
def test_any_two_lines_that_change_places_are_seen(data):
    with copied_log() as folder:
        places = [
            (path, number)
            for path in log_files(folder)
            for number in range(len(path.read_bytes().splitlines()))
        ]
        first, second = data.draw(
            st.lists(st.sampled_from(places), min_size=2, max_size=2, unique=True), label="places"
        )
        lines = {path: path.read_bytes().splitlines(keepends=True) for path, _ in (first, second)}
        (a, i), (b, j) = first, second
        lines[a][i], lines[b][j] = lines[b][j], lines[a][i]
        for path, its in lines.items():
            path.write_bytes(b"".join(its))
        assert verify(folder, KEY).problems


@given(st.data())
def test_a_line_written_twice_is_seen(data):
    with copied_log() as folder:
        path = data.draw(st.sampled_from(log_files(folder)))
        lines = path.read_bytes().splitlines(keepends=True)
        lines.insert(data.draw(st.integers(0, len(lines))), data.draw(st.sampled_from(lines)))
        path.write_bytes(b"".join(lines))
        assert verify(folder, KEY).problems


def test_a_missing_file_is_seen(tmp_path):
    written(tmp_path)
    written(tmp_path, num_lines=2)
    for path in sorted(tmp_path.iterdir()):
        kept = path.read_bytes()
        path.unlink()
        assert verify(tmp_path, KEY).problems, path.name
        path.write_bytes(kept)
    assert not verify(tmp_path, KEY).problems


def test_a_whole_chain_that_vanished_with_its_head_is_seen_by_the_next_one(tmp_path):
    first = written(tmp_path)
    written(tmp_path, num_lines=1)
    for path in tmp_path.glob(f"{first.name}*"):
        path.unlink()
    assert any(first.name in problem for problem in verify(tmp_path, KEY).problems)


def test_an_older_head_put_back_is_seen_by_a_head_kept_elsewhere(tmp_path):
    chain = Chain(tmp_path, Sums(KEY), now=Clock())
    write(chain, 2)
    before = head_path(tmp_path, chain.name).read_bytes()
    size = segments(tmp_path)[0].path.stat().st_size
    write(chain, 2)
    kept = [head for _, head in heads(tmp_path, Sums(KEY)) if head]
    chain._fd, fd = None, chain._fd
    os.close(fd)  # killed
    os.truncate(segments(tmp_path)[0].path, size)
    head_path(tmp_path, chain.name).write_bytes(before)
    blind = verify(tmp_path, KEY)
    assert not blind.problems  # as the documentation says
    assert "no closing line" in blind.notes[0]
    assert verify(tmp_path, KEY, kept).problems


def test_a_chain_written_anew_needs_the_key(tmp_path):
    written(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.unlink()
    written(tmp_path, key=b"forged")
    assert verify(tmp_path, KEY).problems


# -- processes that die ------------------------------------------------------------------------------------


def killed(folder: Path, num_lines: int) -> Chain:
    chain = Chain(folder, Sums(KEY), now=Clock())
    write(chain, num_lines)
    assert chain._fd is not None
    os.close(chain._fd)
    chain._fd = None
    return chain


def test_a_chain_whose_process_died_is_recorded_by_the_next(tmp_path):
    dead = killed(tmp_path, 3)
    report = verify(tmp_path, KEY)
    assert report.problems == []
    assert [chain.end for chain in report.chains] == [End.UNRECORDED]
    written(tmp_path, num_lines=1)
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes) == ([], [])
    assert {chain.name: chain.end for chain in report.chains}[dead.name] is End.RECORDED


def test_a_chain_that_is_being_written_verifies(tmp_path):
    chain = Chain(tmp_path, Sums(KEY), now=Clock())
    write(chain, 3)
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes) == ([], [])
    assert report.chains[0].end is End.WRITING
    chain.close()


def test_a_new_day_begins_a_segment(tmp_path):
    clock = Clock()
    chain = Chain(tmp_path, Sums(KEY), now=clock)
    write(chain, 1)
    clock.now += timedelta(days=1)
    write(chain, 1)
    chain.close()
    assert len(segments(tmp_path)) == 2
    assert not verify(tmp_path, KEY).problems


# -- retention and erasure ---------------------------------------------------------------------------------


def aged(folder: Path, clock: Clock, days: int, num_lines: int = 1) -> Chain:
    """A chain that ran for so many days, a line a day."""
    chain = Chain(folder, Sums(KEY), now=clock)
    for _ in range(days):
        write(chain, num_lines)
        clock.now += timedelta(days=1)
    return chain


def test_what_is_too_old_is_deleted_and_the_rest_verifies(tmp_path):
    clock = Clock()
    old = aged(tmp_path, clock, 3)
    old.close()
    running = aged(tmp_path, clock, 6)
    mine = Chain(tmp_path, Sums(KEY), now=clock)
    write(mine, 1)
    assert delete_expired(tmp_path, mine, Sums(KEY), clock.now - timedelta(days=4)) > 3
    mine.sync()
    names = {segment.chain for segment in segments(tmp_path)}
    assert names == {running.name, mine.name}
    assert min(s.number for s in segments(tmp_path) if s.chain == running.name) > 1
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes) == ([], [])
    mine.close()
    running.close()


def test_gap_lines_that_are_deleted_are_carried_over(tmp_path):
    clock = Clock()
    running = aged(tmp_path, clock, 2)
    first = Chain(tmp_path, Sums(KEY), now=clock)
    write(first, 1)
    assert delete_expired(tmp_path, first, Sums(KEY), clock.now - timedelta(hours=23)) == 1
    first.close()
    clock.now += timedelta(days=9)
    second = Chain(tmp_path, Sums(KEY), now=clock)
    write(second, 1)
    assert delete_expired(tmp_path, second, Sums(KEY), clock.now - timedelta(days=5)) == 1
    second.sync()
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes) == ([], [])
    running.close()
    second.close()


def test_deleting_by_hand_without_a_line_is_seen(tmp_path):
    clock = Clock()
    aged(tmp_path, clock, 3).close()
    segments(tmp_path)[0].path.unlink()
    assert any("missing" in problem for problem in verify(tmp_path, KEY).problems)


def is_of(session_id: str) -> Callable[[Any], bool]:
    return lambda who: who.get("session_id") == session_id


def test_erasing_who_it_was_leaves_a_chain_that_verifies(tmp_path):
    chain = Chain(tmp_path, Sums(KEY), max_segment_bytes=1_500, now=Clock())
    for number in range(6):
        write(chain, 1, {"session_id": f"jane-{number % 2}", "address": f"10.0.0.{number}"})

    def append(kind, fields):
        chain.append(kind, fields)
        chain.sync()

    assert erase(tmp_path, Sums(KEY), is_of("jane-1"), append) == 3
    assert erase(tmp_path, Sums(KEY), is_of("jane-1"), append) == 0
    chain.close()
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes, report.num_erased) == ([], [], 3)
    text = "".join(path.read_text() for path in log_files(tmp_path))
    assert "jane-1" not in text
    assert text.count("jane-0") == 3
    assert not re.search(r"10\.0\.0\.[135]", text)


def test_erasing_by_hand_is_seen(tmp_path):
    written(tmp_path)
    path = log_files(tmp_path)[0]
    data = path.read_bytes()
    shown = re.search(rb'"who":(\{.*?\})\}\n', data)
    assert shown is not None
    path.write_bytes(data.replace(shown[1], b"null".ljust(len(shown[1])), 1))
    assert any("none says it was erased" in problem for problem in verify(tmp_path, KEY).problems)


def test_an_erasure_that_was_interrupted_is_no_forgery(tmp_path):
    chain = Chain(tmp_path, Sums(KEY), now=Clock())
    write(chain, 2)

    def append(kind, fields):
        chain.append(kind, fields)
        chain.sync()
        raise OSError("no power")

    with pytest.raises(OSError, match="no power"):
        erase(tmp_path, Sums(KEY), lambda who: True, append)
    report = verify(tmp_path, KEY)
    assert report.problems == []
    assert "not finished" in report.notes[0]
    chain.close()


# -- lines -------------------------------------------------------------------------------------------------

TEXT = st.text(max_size=40)


@given(st.dictionaries(TEXT, TEXT, max_size=3), st.none() | st.dictionaries(TEXT, TEXT, max_size=3))
def test_a_line_reads_as_it_was_written(fields, who):
    sums = Sums(KEY)
    fields = {f"f-{name}": value for name, value in fields.items()}
    if who is not None:
        who = {f"w-{name}": value for name, value in who.items()}
    data, total = encode_line(sums, 3, "t", "request", fields, "0" * 64, who)
    assert data.count(b"\n") == 1
    line = decode_line(sums, data[:-1])
    assert (line.n, line.kind, line.hash, line.who) == (3, "request", total, who)
    assert fields.items() <= dict(line.fields).items()


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff", b'{"n":1}', b'{"hash":"' + b"0" * 64 + b'"}'])
def test_what_is_no_line_is_refused(data):
    with pytest.raises(BadLine):
        decode_line(Sums(KEY), data)


# -- the thread that writes --------------------------------------------------------------------------------


def test_lines_are_written_by_a_thread(tmp_path):
    log = AuditLog(tmp_path / "new" / "folder", KEY)
    for number in range(500):
        log.append("request", {"number": number}, WHO)
    assert log.flush()
    assert verify(log.folder, KEY).num_lines == 501
    log.close()
    log.close()
    report = verify(log.folder, KEY)
    assert (report.problems, report.num_lines, report.chains[0].end) == ([], 502, End.CLOSED)


def test_a_disk_that_takes_nothing_is_loud_and_loses_no_line_while_there_is_room(tmp_path):
    folder = tmp_path / "folder"
    folder.write_text("in the way")
    failures: list[Exception] = []
    log = AuditLog(folder, KEY, on_failure=failures.append, max_waiting=3, retry_s=0.01)
    for number in range(5):
        log.append("request", {"number": number}, WHO)
    assert not log.flush()
    assert log.is_failing
    assert isinstance(failures[0], OSError)
    folder.unlink()
    assert log.flush()
    assert not log.is_failing
    log.close()
    lines = [line for _, line in read_lines(folder, KEY)]
    assert [line.fields["number"] for line in lines if line.kind == "request"] == [0, 1, 2]
    assert [line.fields["num_lines"] for line in lines if line.kind == "lost"] == [2]
    report = verify(folder, KEY)
    assert report.problems == []
    assert "2 lines were lost" in report.notes[0]


def test_a_write_that_fails_in_the_middle_leaves_no_half_line(tmp_path, monkeypatch):
    chain = Chain(tmp_path, Sums(KEY), now=Clock())
    write(chain, 1)
    whole = os.write

    def half(fd, data):
        whole(fd, bytes(data)[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            chain.append("request", {}, WHO)
    write(chain, 1)
    chain.close()
    assert verify(tmp_path, KEY).problems == []


def test_the_thread_deletes_what_is_too_old(tmp_path):
    clock = Clock()
    aged(tmp_path, clock, 2).close()
    clock.now += timedelta(days=30)
    log = AuditLog(tmp_path, KEY, retention_days=7, now=clock)
    log.append("request", {}, WHO)
    log.close()
    assert len({segment.chain for segment in segments(tmp_path)}) == 1
    assert verify(tmp_path, KEY).problems == []
