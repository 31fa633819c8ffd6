"""What is sealed comes back whole or not at all."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.access.sealing import (
    CHUNK_BYTES,
    HEADER_BYTES,
    MIN_KEY_CHARS,
    TAG_BYTES,
    Seal,
    Unreadable,
)

SEAL = Seal("k" * MIN_KEY_CHARS)
LONG = bytes(range(256)) * (3 * CHUNK_BYTES // 256) + b"the end"
SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_any_size_comes_back(size: int) -> None:
    data = LONG[:size]
    sealed = SEAL.seal(data, "clip")
    assert SEAL.unseal(sealed, "clip") == data
    assert size < 16 or data not in sealed


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(LONG) + 10), st.integers(0, 2 * CHUNK_BYTES)), max_size=8))
def test_a_decoder_may_seek(reads: list[tuple[int, int]]) -> None:
    with SEAL.reader(io.BytesIO(SEAL.seal(LONG, "clip")), "clip") as file:
        for position, size in reads:
            file.seek(position)
            assert file.read(size) == LONG[position : position + size]


@settings(deadline=None)
@given(st.integers(0, len(SEAL.seal(LONG, "clip")) - 1), st.integers(1, 255))
def test_one_changed_byte_is_found(position: int, change: int) -> None:
    sealed = bytearray(SEAL.seal(LONG, "clip"))
    sealed[position] ^= change
    with pytest.raises(Unreadable):
        SEAL.unseal(bytes(sealed), "clip")


@settings(deadline=None)
@given(st.integers(0, len(SEAL.seal(LONG, "clip")) - 1))
def test_a_file_cut_off_anywhere_does_not_open(length: int) -> None:
    with pytest.raises(Unreadable):
        SEAL.reader(io.BytesIO(SEAL.seal(LONG, "clip")[:length]), "clip")


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 1, 3), (0, 0, 1, 2, 3), (0, 1, 3), (0, 1, 2)])
def test_chunks_keep_their_order(order: tuple[int, ...]) -> None:
    sealed = SEAL.seal(LONG, "clip")
    header, body = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
    chunks = [body[start : start + SEALED_CHUNK] for start in range(0, len(body), SEALED_CHUNK)]
    with pytest.raises(Unreadable):
        SEAL.unseal(header + b"".join(chunks[index] for index in order), "clip")


def test_another_key_or_another_name_opens_nothing() -> None:
    sealed = SEAL.seal(b"hello", "clip")
    for seal, name in ((Seal("other" * 10), "clip"), (SEAL, "another clip")):
        with pytest.raises(Unreadable):
            seal.unseal(sealed, name)
    with pytest.raises(Unreadable):
        SEAL.unseal(b"never sealed", "clip")


def test_the_same_data_is_sealed_in_another_way_each_time() -> None:
    assert SEAL.seal(b"hello", "clip") != SEAL.seal(b"hello", "clip")


def test_without_a_key_data_stays_as_it_is() -> None:
    assert Seal(None).seal(LONG, "clip") == LONG
    assert Seal(None).unseal(LONG, "clip") == LONG


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        Seal("password")
