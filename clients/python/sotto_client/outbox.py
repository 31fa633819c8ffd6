"""What a client has to say: audio and marks, kept until no resumed session can ask for them again. No IO."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TypeAlias

from sotto_client.audio import SAMPLE_RATE_HZ

PIECE_BYTES = 64 * 1024
"""Longest binary message; a multiple of every sample's size."""


class Mark(Enum):
    """A command at its place between two samples. After CANCEL nothing is kept or sent."""

    FLUSH = auto()
    END = auto()
    CANCEL = auto()


Item: TypeAlias = bytes | Mark


class Outbox:
    """Items in the order they were said: first those sent and not acknowledged, then those to be sent.

    Positions inside are samples of the client's own rate; those that callers name are the server's, at 16 kHz
    from the first sample of the session (`begin_anew`: of the newest session).
    """

    def __init__(self, *, sample_bytes: int = 2, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self._sample_bytes = sample_bytes
        self._rate_hz = rate_hz
        self._sent: deque[tuple[int, Item]] = deque()
        self._waiting: deque[tuple[int, Item]] = deque()
        self._origin = self._start = self._end = 0

    @property
    def held_s(self) -> float:
        """Seconds of audio in memory."""
        return (self._end - self._start) / self._rate_hz

    @property
    def origin_ms(self) -> float:
        """Where the newest session's first sample is in all that was said."""
        return self._origin * 1000 / self._rate_hz

    def put(self, audio: bytes) -> None:
        """Raises `ValueError` where `audio` is not whole samples."""
        if len(audio) % self._sample_bytes:
            raise ValueError(f"{len(audio)} bytes of audio: expected a multiple of {self._sample_bytes}")
        for start in range(0, len(audio), PIECE_BYTES):
            piece = audio[start : start + PIECE_BYTES]
            self._waiting.append((self._end, piece))
            self._end += len(piece) // self._sample_bytes

    def mark(self, mark: Mark) -> None:
        if mark is Mark.CANCEL:
            self._waiting.clear()
        self._waiting.append((self._end, mark))

    def next(self) -> Item | None:
        """The next item to send, which counts as sent from now on."""
        if not self._waiting:
            return None
        self._sent.append(self._waiting.popleft())
        return self._sent[-1][1]

    def rewind(self) -> None:
        """Everything that is kept has to be sent (again)."""
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()

    def forget(self, sample: int) -> bool:
        """Give up what lies before the server's `sample`; False where audio from there on is no longer
        kept."""
        position = self._origin + sample * self._rate_hz // SAMPLE_RATE_HZ
        if position < self._start:
            return False
        self._forget(position)
        return True

    def forget_sent(self) -> None:
        """Give up all that was sent, where there is nothing to resume with."""
        self._sent.clear()
        self._start = self._waiting[0][0] if self._waiting else self._end

    def begin_anew(self) -> None:
        """The server's samples count from the oldest that is kept."""
        self._origin = self._start

    def _forget(self, position: int) -> None:
        self._start = min(position, self._end)
        while queue := self._sent or self._waiting:
            begin, item = queue[0]
            if isinstance(item, Mark):
                if item is not Mark.FLUSH or begin > position:
                    return
                queue.popleft()
                continue
            if begin + len(item) // self._sample_bytes > position:
                if begin < position:
                    queue[0] = (position, item[(position - begin) * self._sample_bytes :])
                return
            queue.popleft()
