"""Between an event loop that gets bytes pushed and a thread in which FFmpeg pulls them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import Final

from serve_app.core.errors import SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16, join

_HAND_OVER_SAMPLES: Final = SAMPLE_RATE_HZ


class PipeClosedError(Exception):
    """Ends the decoder thread from inside FFmpeg's read or a hand-over."""


class BytePipe:
    """What loop and thread share: bytes one way, samples the other; all of it under one lock.

    To FFmpeg it is a file that can only be read. The events belong to the loop.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, max_unread_bytes: int, max_ready_samples: int
    ) -> None:
        self._loop = loop
        self._max_unread_bytes = max_unread_bytes
        self._max_ready_samples = max_ready_samples
        self._changed = threading.Condition()
        self._bytes = bytearray()
        self._input_ended = False
        self._closed = False
        self._decoded: list[Pcm16] = []  # the thread's own, not handed over yet
        self._num_decoded = 0
        self._ready: deque[Pcm16] = deque()
        self._num_ready = 0
        self._error: SottoError | None = None
        self._output_ended = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self.ended = asyncio.Event()
        self.format: str | None = None
        self.warning: str | None = None
        self.remark: str | None = None

    # The loop's side.

    def write(self, data: memoryview) -> None:
        with self._changed:
            if self._input_ended or self._output_ended or self._closed:
                return
            self._bytes += data
            self._changed.notify()

    async def until_writable(self) -> None:
        while True:
            with self._changed:
                if len(self._bytes) <= self._max_unread_bytes or self._output_ended or self._closed:
                    return
                self._writable.clear()
            await self._writable.wait()

    def end_of_input(self) -> None:
        with self._changed:
            self._input_ended = True
            self._changed.notify()

    async def take(self) -> Pcm16 | None:
        """All that is ready, joined; None at the end. Raises the stream's error."""
        while True:
            with self._changed:
                if self._ready:
                    chunk = join(list(self._ready))
                    self._ready.clear()
                    self._num_ready = 0
                    self._changed.notify()
                    return chunk
                if self._closed or self._output_ended:
                    error, self._error = self._error, None
                    if error is not None and not self._closed:
                        raise error
                    return None
                self._readable.clear()
            await self._readable.wait()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._bytes.clear()
            self._ready.clear()
            self._changed.notify()
        self._readable.set()
        self._writable.set()

    # The thread's side.

    def peek(self, num_bytes: int) -> bytes:
        """The first bytes, without taking them; fewer at the end of the input."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._bytes) >= num_bytes or self._input_ended or self._closed)
            self._raise_if_closed()
            return bytes(self._bytes[:num_bytes])

    def read(self, num_bytes: int = -1) -> bytes:
        """FFmpeg's read: blocks until there is a byte; empty at the end of the input."""
        if not self._bytes and not self._closed:
            self._hand_over()
        with self._changed:
            self._changed.wait_for(lambda: self._bytes or self._input_ended or self._closed)
            # Closed reads as the end of the input: FFmpeg loses an exception raised from here.
            data = bytes(self._bytes[:num_bytes] if num_bytes >= 0 else self._bytes)
            was_full = len(self._bytes) > self._max_unread_bytes
            del self._bytes[: len(data)]
            if was_full and len(self._bytes) <= self._max_unread_bytes:
                self._wake(self._writable)
            return data

    def put(self, chunk: Pcm16) -> None:
        """Keep samples for the next hand-over; raises `PipeClosedError` where they are not read any more."""
        self._decoded.append(chunk)
        self._num_decoded += len(chunk)
        if self._num_decoded >= _HAND_OVER_SAMPLES:
            self._hand_over()
        elif self._closed:
            raise PipeClosedError

    def end_of_output(self, error: SottoError | None) -> None:
        with contextlib.suppress(PipeClosedError):
            self._hand_over()
        with self._changed:
            self._error = error
            self._output_ended = True
            self._bytes.clear()
            self._wake(self._readable)
            self._wake(self._writable)
            self._wake(self.ended)

    def _hand_over(self) -> None:
        """Give the decoded samples to the loop; waits while it has more than enough."""
        if not self._decoded:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._num_ready < self._max_ready_samples or self._closed)
            self._raise_if_closed()
            self._ready.append(join(self._decoded))
            self._num_ready += self._num_decoded
            self._wake(self._readable)
        self._decoded = []
        self._num_decoded = 0

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise PipeClosedError

    def _wake(self, event: asyncio.Event) -> None:
        # RuntimeError: the loop is closed, so it is not awaited any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(event.set)
