"""Memory that runs out: how it is recognised, how long batches stay small, that every item is answered."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.failed_batches import BatchCap, decode_isolated, is_out_of_memory, release_unused


class TorchsOutOfMemoryError(RuntimeError):
    """As torch has it: a RuntimeError by inheritance."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN failed with status CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("parallel_for failed: cudaErrorInvalidDevice: invalid device ordinal"),
        RuntimeError("std::bad_alloc"),
        TorchsOutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."),
        MemoryError(),
        MemoryError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_signs_of_memory_that_ran_out(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA failed with error an illegal memory access was encountered"),
        RuntimeError("CUDA failed with error invalid device ordinal"),
        ValueError("out of memory positions: a prompt is too long"),
        ValueError("MatMul: batch dimension of inputs a and b should match"),
        RuntimeError(""),
    ],
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


# -- the cap ------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_batches_stay_small_for_a_while_and_grow_back() -> None:
    clock = Clock()
    cap = BatchCap(lowered_for_s=60, clock=clock)
    assert cap.size(16) == 16
    cap.failed(16)
    assert cap.size(16) == 8
    cap.failed(8)
    assert (cap.size(16), cap.size(3)) == (4, 3)
    clock.now_s = 59.9
    assert cap.size(16) == 4
    clock.now_s = 60
    assert cap.size(16) == 8
    clock.now_s = 119.9
    assert cap.size(16) == 8
    clock.now_s = 120
    assert cap.size(64) == 64
    assert cap.num_failures == 2


def test_a_failure_begins_the_wait_anew() -> None:
    clock = Clock()
    cap = BatchCap(lowered_for_s=60, clock=clock)
    cap.failed(8)
    clock.now_s = 50
    cap.failed(4)
    clock.now_s = 100
    assert cap.size(8) == 2
    clock.now_s = 110
    assert cap.size(8) == 4
    clock.now_s = 1_000
    assert cap.size(8) == 8


def test_what_was_found_at_the_start_is_kept_to() -> None:
    clock = Clock()
    cap = BatchCap(lowered_for_s=60, clock=clock)
    cap.failed(8)
    cap.keep_to(cap.size(8))
    clock.now_s = 10_000
    assert cap.size(8) == 4
    cap.failed(4)
    assert cap.size(8) == 2
    clock.now_s = 20_000
    assert cap.size(8) == 4


def test_a_cap_is_never_under_one() -> None:
    cap = BatchCap()
    cap.failed(1)
    cap.failed(1)
    assert cap.size(5) == 1


# -- batches ------------------------------------------------------------------------------------------


class FakeEngine:
    """Fails with out-of-memory over `holds` items, and on batches with an item of `hopeless`; otherwise on
    batches with an item of `bad`. `upsets`: so many first calls fail, whatever they hold."""

    def __init__(
        self, holds: int, *, hopeless: frozenset[int] = frozenset(), bad: frozenset[int] = frozenset()
    ) -> None:
        self.holds = holds
        self.hopeless = hopeless
        self.bad = bad
        self.upsets = 0
        self.sizes: list[int] = []

    def decode(self, items: Sequence[int]) -> list[str]:
        self.sizes.append(len(items))
        if self.upsets:
            self.upsets -= 1
            raise RuntimeError("CUDA failed with error out of memory")
        if len(items) > self.holds or self.hopeless & set(items):
            raise RuntimeError("CUDA failed with error out of memory")
        if self.bad & set(items):
            raise ValueError("this item is bad")
        return [f"text {item}" for item in items]


def fail(item: int, ran_out: bool) -> str:
    return f"{'full' if ran_out else 'failed'} {item}"


@given(
    num_items=st.integers(1, 40),
    holds=st.integers(0, 40),
    hopeless=st.frozensets(st.integers(0, 39), max_size=4),
    bad=st.frozensets(st.integers(0, 39), max_size=4),
)
def test_every_item_is_answered_and_only_those_fail_that_must(
    num_items: int, holds: int, hopeless: frozenset[int], bad: frozenset[int]
) -> None:
    engine = FakeEngine(holds, hopeless=hopeless, bad=bad)
    cap = BatchCap(clock=lambda: 0.0)
    results = decode_isolated(range(num_items), engine.decode, fail, cap)
    expected = [
        f"full {item}"
        if item in hopeless or not holds
        else f"failed {item}"
        if item in bad
        else f"text {item}"
        for item in range(num_items)
    ]
    assert results == expected
    # Bounded: a binary tree of halves, its leaves tried twice, and all items singly.
    assert len(engine.sizes) <= 5 * num_items


@given(num_items=st.integers(1, 64), holds=st.integers(1, 64))
def test_after_a_failure_batches_are_no_larger_than_what_fits(num_items: int, holds: int) -> None:
    engine = FakeEngine(holds)
    cap = BatchCap(clock=lambda: 0.0)
    decode_isolated(range(num_items), engine.decode, fail, cap)
    engine.sizes.clear()
    decode_isolated(range(num_items), engine.decode, fail, cap)
    assert max(engine.sizes) <= holds
    assert cap.num_failures == 0 or cap.size(num_items) > holds / 2 - 1


def test_a_single_item_is_tried_once_more() -> None:
    engine = FakeEngine(8)
    engine.upsets = 1
    assert decode_isolated([3], engine.decode, fail, BatchCap()) == ["text 3"]
    engine.upsets = 2
    assert decode_isolated([3], engine.decode, fail, BatchCap()) == ["full 3"]


def test_errors_that_no_model_raises_go_on() -> None:
    def decode(items: Sequence[int]) -> list[str]:
        raise KeyError(items[0])

    with pytest.raises(KeyError):
        decode_isolated([1, 2], decode, fail, BatchCap())


def test_torchs_cache_is_given_back_where_torch_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    cuda = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, empty_cache=lambda: calls.append(1)
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    release_unused()
    assert calls == [1]
    cuda.is_initialized = lambda: False
    release_unused()
    assert calls == [1]
    monkeypatch.delitem(sys.modules, "torch")
    release_unused()
