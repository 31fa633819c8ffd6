"""What a session remembers of its speakers: one row each, small enough for a resume ticket.

version u8 | num_speakers u8 | num_dimensions u16 | until_s f64 |
per speaker: label u8 | weight_s f32 | scale f32 | int8 * num_dimensions          little-endian
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.speakers.live.clustering import Floats

MAX_LIVE_SPEAKERS = 16
MAX_WEIGHT_S = 600.0
MAX_DIMENSIONS = 512
MAX_UNTIL_S = 1e7

_VERSION = 1
_HEAD = struct.Struct("<BBHd")
_ROW = struct.Struct("<Bff")
_LARGEST = 127


@dataclass(frozen=True, slots=True)
class SpeakerRow:
    """One speaker: the mean of the voices heard, `scale * steps`, and the seconds behind it."""

    label: int
    weight_s: float
    scale: float
    steps: bytes

    @classmethod
    def of(cls, label: int, weight_s: float, mean: Floats) -> SpeakerRow:
        scale = _float32(max(float(np.abs(mean).max()), 1e-6) / _LARGEST)
        steps = np.clip(np.round(mean / scale), -_LARGEST, _LARGEST).astype(np.int8)
        return cls(label, _float32(weight_s), scale, steps.tobytes())

    @property
    def mean(self) -> Floats:
        steps: npt.NDArray[np.int8] = np.frombuffer(self.steps, np.int8)
        return steps.astype(np.float32) * np.float32(self.scale)


@dataclass(frozen=True, slots=True)
class LabellerState:
    """Every speaker heard before `until_s`, the session's time in seconds."""

    until_s: float = 0.0
    rows: tuple[SpeakerRow, ...] = ()

    def to_bytes(self) -> bytes:
        num_dimensions = len(self.rows[0].steps) if self.rows else 0
        parts = [_HEAD.pack(_VERSION, len(self.rows), num_dimensions, self.until_s)]
        for row in self.rows:
            parts += [_ROW.pack(row.label, row.weight_s, row.scale), row.steps]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> LabellerState:
        """Raises `ValueError` for bytes that no `to_bytes` gave."""
        if len(data) < _HEAD.size:
            raise ValueError("the state of the speakers is cut off")
        version, num_rows, num_dimensions, until_s = _HEAD.unpack_from(data)
        size = _ROW.size + num_dimensions
        if version != _VERSION or num_rows > MAX_LIVE_SPEAKERS or num_dimensions > MAX_DIMENSIONS:
            raise ValueError("the state of the speakers is of another version")
        if len(data) != _HEAD.size + num_rows * size or bool(num_rows) != bool(num_dimensions):
            raise ValueError("the state of the speakers has a wrong length")
        if not 0 <= until_s <= MAX_UNTIL_S:
            raise ValueError("the state of the speakers is of no time")
        rows = tuple(_row(data[at : at + size]) for at in range(_HEAD.size, len(data), size))
        if len({row.label for row in rows}) != num_rows:
            raise ValueError("the state of the speakers has one of them twice")
        return cls(until_s, rows)


def _row(data: bytes) -> SpeakerRow:
    label, weight_s, scale = _ROW.unpack_from(data)
    steps = data[_ROW.size :]
    # Comparisons that NaN fails; the mean of unit vectors is no longer than 1.
    sound = label < MAX_LIVE_SPEAKERS and 0 < weight_s <= MAX_WEIGHT_S and 0 < scale <= 1.0
    length = (
        scale * math.dist(np.frombuffer(steps, np.int8).tolist(), [0] * len(steps)) if sound else math.inf
    )
    if not length <= 1.1:
        raise ValueError("the state of the speakers holds a speaker that cannot be")
    return SpeakerRow(label, weight_s, scale, steps)


def _float32(value: float) -> float:
    return float(np.float32(value))
