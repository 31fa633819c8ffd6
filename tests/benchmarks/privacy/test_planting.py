"""The search finds what is there, wherever it lies, and counts it once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.privacy import planting
from benchmarks.privacy.planting import Searcher, is_memory, planted_words


@given(st.lists(st.integers(0, 200), max_size=5), st.integers(0, 50))
def test_each_place_counts_once_however_the_blocks_fall(gaps, lead):
    needle = b"needle-0123456789"
    data = b"x" * lead + b"".join(needle + b"y" * gap for gap in gaps)
    blocks = (data[first : first + 64] for first in range(0, len(data), 64))
    found = Searcher({"word": needle})._blocks("here", blocks)
    assert found.hits["here", "word"] == len(gaps)
    assert found.num_bytes == len(data)


def test_a_word_across_two_blocks_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(planting, "BLOCK_BYTES", 8)
    path = tmp_path / "a.log"
    path.write_bytes(b"12345planted67")
    assert Searcher({"word": b"planted"}).file(path).hits == {(str(path), "word"): 1}


def test_names_of_files_are_searched_and_old_ones_are_not(tmp_path):
    (tmp_path / "planted.txt").write_text("nothing")
    old = tmp_path / "old"
    old.write_text("planted")
    os.utime(old, (1, 1))
    found = Searcher({"word": b"planted"}).tree(tmp_path, since_s=100.0)
    assert list(found.hits) == [(f"name of {tmp_path}", "word")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_open_files_without_a_name_are_searched():
    code = (
        "import tempfile, sys\n"
        "file = tempfile.TemporaryFile(); file.write(b'planted audio'); file.flush()\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "plantedkey"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        found = Searcher({"audio": b"planted audio", "key": b"plantedkey"}).processes([process.pid])
    finally:
        process.communicate()
    assert {kind for _, kind in found.hits} == {"audio", "key"}


def test_words_are_all_different():
    words = planted_words(["a", "b"])
    assert len({*words.values(), *planted_words(["a", "b"]).values()}) == 4


def test_memory_that_processes_share_is_told_from_files():
    assert is_memory("open file of 12: /dev/shm/plasmaX (deleted)")
    assert not is_memory("open file of 12: /tmp/upload (deleted)")
    assert not is_memory("/dev/shm/sotto-1/spilled")
