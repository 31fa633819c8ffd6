"""Valid frames made hostile: for throwing at doors, the same ones for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

Frame: TypeAlias = str | bytes

_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**64, -(2**70), 0.5, -1e300, 1e-320,
    "", "x", "\x00", "\ud7ff", "é" * 300, "9" * 40, [], [[]], {}, {"type": "type"}, [None] * 200,
)  # fmt: skip
_BLOBS = (
    b"",
    b"\x00",
    b"OggS",
    b"\x1a\x45\xdf\xa3",
    b"RIFF\xff\xff\xff\xffWAVE",
    b"fLaC",
    b"ffconcat version 1.0\n",
)
_TEXTS = (
    "",
    "null",
    "[]",
    "{}",
    '{"type":',
    '{"type":null}',
    "[" * 5_000,
    '"' + "a" * 5_000,
    "\x00",
    "NaN",
    "1e999",
)


class FrameMutator:
    """Endless frames near the valid ones."""

    def __init__(self, valid: Sequence[Frame], seed: int) -> None:
        self._valid = tuple(valid)
        self._random = random.Random(seed)

    def conversation(self) -> Iterator[Frame]:
        """Frames of one connection: mostly the valid ones in order, some of them spoilt, some strange."""
        num_frames = self._random.randint(1, 24)
        for index in range(num_frames):
            frame = self._valid[index % len(self._valid)]
            if self._random.random() < 0.3:
                frame = self._random.choice(self._valid)
            yield frame if self._random.random() < 0.35 else self._spoilt(frame)

    def _spoilt(self, frame: Frame) -> Frame:
        roll = self._random.random()
        if roll < 0.08:
            return self._random.choice(_BLOBS) + self._random.randbytes(self._random.choice((0, 1, 7, 900)))
        if roll < 0.16:
            return self._random.choice(_TEXTS)
        if roll < 0.22:
            return _other_kind(frame)
        if isinstance(frame, str):
            return self._spoilt_text(frame)
        return self._spoilt_bytes(frame)

    def _spoilt_text(self, frame: str) -> str:
        if self._random.random() < 0.6:
            try:
                return json.dumps(self._spoilt_value(json.loads(frame)))
            except ValueError:
                pass
        return self._spoilt_bytes(frame.encode()).decode("utf-8", "replace")

    def _spoilt_value(self, value: Any) -> Any:
        """One place in a JSON value replaced, dropped or doubled."""
        if isinstance(value, dict) and value and self._random.random() < 0.85:
            name = self._random.choice(list(value))
            roll = self._random.random()
            if roll < 0.15:
                return {key: kept for key, kept in value.items() if key != name}
            if roll < 0.25:
                return {**value, self._random.choice(("", "type", "x" * 100, name + "_")): value[name]}
            return {**value, name: self._spoilt_value(value[name])}
        if isinstance(value, list) and value and self._random.random() < 0.85:
            index = self._random.randrange(len(value))
            return [*value[:index], self._spoilt_value(value[index]), *value[index:]]
        return self._random.choice(_VALUES)

    def _spoilt_bytes(self, data: bytes) -> bytes:
        spoilt = bytearray(data)
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(spoilt) + 1)
            roll = self._random.random()
            if roll < 0.4 and at < len(spoilt):
                spoilt[at] ^= 1 << self._random.randrange(8)
            elif roll < 0.6:
                spoilt[at:at] = self._random.randbytes(self._random.randint(1, 9))
            elif roll < 0.8:
                del spoilt[at : at + self._random.randint(1, 40)]
            else:
                del spoilt[at:]
        return bytes(spoilt)


def _other_kind(frame: Frame) -> Frame:
    return frame.encode() if isinstance(frame, str) else frame.decode("latin-1")
