"""Batches that fail: taken apart, so that one bad item fails alone, and made smaller where memory runs out.

CTranslate2 raises RuntimeErrors with CUDA's or cuBLAS's words; a card that is full to the brim lets its
kernels fail to launch, which CTranslate2 reports as an invalid device (others saw the two messages alternate
under the same pressure). torch raises a RuntimeError of its own; std::bad_alloc comes as a MemoryError.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol, TypeVar

import numpy as np
import structlog

from serve_app.asr.ports import Transcriber
from serve_app.asr.windows import MAX_AUDIO_S
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import DecodeJob, Role, Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ

_log = structlog.get_logger(__name__)

LOWERED_FOR_S = 60.0
"""So long after the last failure batches stay small; then they may double, and again after as long."""

_SIGNS = (
    "out of memory",
    "bad_alloc",
    "alloc_failed",
    "cannot allocate memory",
    "can't allocate memory",
    "failed to allocate memory",
    "cudaerrormemoryallocation",
    "parallel_for failed: cudaerrorinvaliddevice",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an engine's error means that memory ran out, of the card or of the machine."""
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    said = str(error).lower()
    return any(sign in said for sign in _SIGNS)


def release_unused() -> None:
    """Give back what torch keeps for later, where torch is used in this process; CTranslate2's allocators
    free what they keep by themselves before they fail."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


class BatchCap:
    """How many items a batch may hold for now. Thread-safe.

    Lowered below what failed, doubled after `lowered_for_s` without a failure, gone once it allows what had
    failed, as far as nothing lower is kept to for good.
    """

    def __init__(
        self, *, lowered_for_s: float = LOWERED_FOR_S, clock: Callable[[], float] = monotonic
    ) -> None:
        self._lowered_for_s = lowered_for_s
        self._clock = clock
        self._lock = threading.Lock()
        self._cap: int | None = None
        self._always: int | None = None
        self._wanted = 1
        self._changed_s = 0.0
        self._num_failures = 0

    @property
    def num_failures(self) -> int:
        """Batches that ran out of memory since the start."""
        return self._num_failures

    def size(self, num_items: int) -> int:
        """How many of `num_items` to take into one batch; at least 1."""
        with self._lock:
            while self._cap is not None and self._clock() - self._changed_s >= self._lowered_for_s:
                self._changed_s += self._lowered_for_s
                self._cap = self._cap * 2 if self._cap * 2 < self._wanted else None
            limits = (num_items, self._cap or num_items, self._always or num_items)
            return max(1, min(limits))

    def keep_to(self, num_items: int) -> None:
        """Never more than `num_items` from now on."""
        with self._lock:
            self._always = max(1, num_items)
            self._cap = None

    def failed(self, num_items: int) -> None:
        """A batch of `num_items` ran out of memory."""
        with self._lock:
            self._num_failures += 1
            half = max(1, num_items // 2)
            self._wanted = num_items if self._cap is None else max(self._wanted, num_items)
            self._cap = half if self._cap is None else min(self._cap, half)
            self._changed_s = self._clock()


# -- a batch that fails, taken apart -----------------------------------------------------------------------

MODEL_ERRORS = (RuntimeError, ValueError, MemoryError)
"""What an engine raises for a batch as a whole; memory that runs out is among them."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def decode_isolated(
    items: Sequence[Item],
    decode: Callable[[Sequence[Item]], list[Result]],
    fail: Callable[[Item, bool], Result],
    cap: BatchCap,
) -> list[Result]:
    """One result per item, in order; `fail(item, ran_out)` makes those of items that `decode` fails on alone.

    A batch is no larger than `cap` allows. One that runs out of memory lowers the cap and is tried again in
    halves, a single item once more as it is; one that fails otherwise is tried again item by item.
    """

    def in_parts(size: int) -> list[Result]:
        parts = [items[first : first + size] for first in range(0, len(items), size)]
        return [result for part in parts for result in decode_isolated(part, decode, fail, cap)]

    size = cap.size(len(items))
    if size < len(items):
        return in_parts(size)
    try:
        return decode(items)
    except MODEL_ERRORS as error:
        ran_out, kind = is_out_of_memory(error), type(error).__name__
    # Only here is the batch's memory free again: the error's traceback held it.
    if len(items) > 1 and not ran_out:
        _log.warning("batch failed, its items are retried singly", num_items=len(items))
        return in_parts(1)
    if ran_out:
        cap.failed(len(items))
        release_unused()
        _log.warning("out of memory", num_items=len(items))
        if len(items) > 1:
            return in_parts(-(-len(items) // 2))
        try:
            return decode(items)  # others may have held the memory a moment ago
        except MODEL_ERRORS as error:
            ran_out, kind = is_out_of_memory(error), type(error).__name__
    _log.error("decode failed", error=kind, out_of_memory=ran_out)
    return [fail(items[0], ran_out)]


# -- the largest batch, tried at the start -----------------------------------------------------------------


class CappedTranscriber(Transcriber, Protocol):
    @property
    def cap(self) -> BatchCap: ...


def try_largest_batch(transcriber: CappedTranscriber, max_batch: int) -> None:
    """Decode `max_batch` of the longest windows in one batch, and keep to what fits from then on.

    Interims' windows, since those are not tried again for unlikely text, which noise is. Raises
    `ModelUnavailable` where not even one fits.
    """
    cap, model = transcriber.cap, transcriber.info.model
    noise = np.random.default_rng(1).normal(0, 3000, round(MAX_AUDIO_S) * SAMPLE_RATE_HZ).astype(np.int16)
    num_failures = cap.num_failures
    results = transcriber.transcribe([DecodeJob(n, Role.INTERIM, noise, "en") for n in range(max_batch)])
    if cap.num_failures == num_failures:
        return
    if not any(isinstance(result, Transcript) for result in results):
        raise ModelUnavailable(
            f"the model {model} runs out of memory on a batch of one: give it a larger share of the card "
            "(num_gpus), or take a smaller model or int8_float16"
        )
    fits = cap.size(max_batch)
    cap.keep_to(fits)
    _log.warning("batches are kept smaller, memory ran out", model=model, wanted=max_batch, max_batch=fits)
