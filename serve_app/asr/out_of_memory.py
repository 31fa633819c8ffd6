"""Memory that runs out during a decode: how engines say so, and the batch size that is kept to afterwards.

CTranslate2 raises RuntimeErrors with CUDA's or cuBLAS's words; a card that is full to the brim lets its
kernels fail to launch, which CTranslate2 reports as an invalid device (others saw the two messages alternate
under the same pressure). torch raises a RuntimeError of its own; std::bad_alloc comes as a MemoryError.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

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
        """Of so many items, how many to take into one batch; at least 1."""
        with self._lock:
            while self._cap is not None and self._clock() - self._changed_s >= self._lowered_for_s:
                self._changed_s += self._lowered_for_s
                self._cap = self._cap * 2 if self._cap * 2 < self._wanted else None
            limits = (num_items, self._cap or num_items, self._always or num_items)
            return max(1, min(limits))

    def keep_to(self, num_items: int) -> None:
        """Never more than so many, from now on."""
        with self._lock:
            self._always = max(1, num_items)
            self._cap = None

    def failed(self, num_items: int) -> None:
        """A batch of so many ran out of memory."""
        with self._lock:
            self._num_failures += 1
            half = max(1, num_items // 2)
            self._wanted = num_items if self._cap is None else max(self._wanted, num_items)
            self._cap = half if self._cap is None else min(self._cap, half)
            self._changed_s = self._clock()
