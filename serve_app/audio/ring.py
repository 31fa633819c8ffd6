"""The audio a session still needs: int16 samples addressed by their index from the session's start."""

from __future__ import annotations

from typing import Final

import numpy as np

from serve_app.core.samples import Pcm16

_MIN_CAPACITY_SAMPLES: Final = 16_384


class SampleBuffer:
    """Samples `[start, end)` of one stream; the old ones are given up with `discard_before`.

    Indices are absolute: sample 0 stays the stream's first when samples are discarded. Appending is
    amortised O(1) per sample: samples live in one array that doubles when it is full, moves its content to
    the front when half of it is free, and shrinks again after a burst. The caller bounds the length: nothing
    is ever dropped here unasked.
    """

    __slots__ = ("_data", "_end", "_head", "_start")

    def __init__(self, start: int = 0) -> None:
        if start < 0:
            raise ValueError(f"start must be 0 or more, got {start}")
        self._data = np.empty(_MIN_CAPACITY_SAMPLES, np.int16)
        self._head = 0  # where sample `_start` lies in `_data`
        self._start = start
        self._end = start

    @property
    def start(self) -> int:
        """Index of the oldest sample held."""
        return self._start

    @property
    def end(self) -> int:
        """Index one past the newest sample."""
        return self._end

    @property
    def capacity_bytes(self) -> int:
        return self._data.nbytes

    def __len__(self) -> int:
        return self._end - self._start

    def append(self, chunk: Pcm16) -> None:
        """Copy int16 `(n,)` samples behind the newest one."""
        if chunk.dtype != np.int16 or chunk.ndim != 1:
            raise ValueError(f"expected int16 (n,), got {chunk.dtype} {chunk.shape}")
        tail = self._head + len(self)
        if tail + len(chunk) > len(self._data):
            self._make_room(len(self) + len(chunk))
            tail = len(self)
        self._data[tail : tail + len(chunk)] = chunk
        self._end += len(chunk)

    def slice(self, start: int, end: int) -> Pcm16:
        """Return a copy of samples `[start, end)`; raises `IndexError` for samples not held."""
        if not self._start <= start <= end <= self._end:
            raise IndexError(f"samples [{start}, {end}) are outside [{self._start}, {self._end})")
        offset = self._head - self._start
        return self._data[offset + start : offset + end].copy()

    def discard_before(self, index: int) -> None:
        """Give up the samples before `index`; an index that is already behind `start` changes nothing.

        Raises `IndexError` past `end`: samples that have not come cannot be given up.
        """
        if index > self._end:
            raise IndexError(f"cannot discard before {index}: the newest sample is {self._end - 1}")
        if index <= self._start:
            return
        self._head += index - self._start
        self._start = index

    def _make_room(self, num_samples: int) -> None:
        """Move the content to the front of an array of 2 to 8 times `num_samples`.

        At least half of the array is free afterwards, so that the next move is that many samples away.
        """
        length = len(self)
        held = self._data[self._head : self._head + length]
        wanted = max(_MIN_CAPACITY_SAMPLES, 2 * num_samples)
        if wanted <= len(self._data) <= 4 * wanted:
            self._data[:length] = held  # numpy copies overlapping ranges as if through a buffer
        else:
            data = np.empty(wanted, np.int16)
            data[:length] = held
            self._data = data
        self._head = 0
