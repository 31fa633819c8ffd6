"""What a session remembers of its speakers: one row each, small enough for a resume ticket.

version u8 | num_speakers u8 | num_dimensions u16 | until_s f64 |
per speaker: label u8 | weight_s f32 | scale f32 | int8 * num_dimensions          little-endian

Version 2, where voices are alike: the same with num_speakers and twice num_pairs such rows, the pairs behind,
and num_pairs u8 at the end.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.speakers.clustering import Floats

MAX_LIVE_SPEAKERS = 16
MAX_WEIGHT_S = 600.0
MAX_DIMENSIONS = 512
MAX_UNTIL_S = 1e7

MAX_ALIKE_PAIRS = 4

_VERSION, _VERSION_WITH_PAIRS = 1, 2
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
class AlikePair:
    """Two speakers in one cluster of voices, by the means of their turns: `known` has the cluster's label,
    `other` a label that no cluster has."""

    known: SpeakerRow
    other: SpeakerRow


@dataclass(frozen=True, slots=True)
class LabellerState:
    """Every speaker heard before `until_s`, the session's time in seconds."""

    until_s: float = 0.0
    rows: tuple[SpeakerRow, ...] = ()
    pairs: tuple[AlikePair, ...] = ()

    def to_bytes(self) -> bytes:
        rows = [*self.rows, *(row for pair in self.pairs for row in (pair.known, pair.other))]
        num_dimensions = len(rows[0].steps) if rows else 0
        version = _VERSION_WITH_PAIRS if self.pairs else _VERSION
        parts = [_HEAD.pack(version, len(self.rows), num_dimensions, self.until_s)]
        for row in rows:
            parts += [_ROW.pack(row.label, row.weight_s, row.scale), row.steps]
        return b"".join(parts) + (bytes([len(self.pairs)]) if self.pairs else b"")

    @classmethod
    def from_bytes(cls, data: bytes) -> LabellerState:
        """Raises `ValueError` for bytes that no `to_bytes` gave."""
        if len(data) < _HEAD.size:
            raise ValueError("the state of the speakers is cut off")
        version, num_rows, num_dimensions, until_s = _HEAD.unpack_from(data)
        size = _ROW.size + num_dimensions
        if (
            version not in (_VERSION, _VERSION_WITH_PAIRS)
            or num_rows > MAX_LIVE_SPEAKERS
            or num_dimensions > MAX_DIMENSIONS
        ):
            raise ValueError("the state of the speakers is of another version")
        num_pairs, end = (data[-1], len(data) - 1) if version == _VERSION_WITH_PAIRS else (0, len(data))
        num_all = num_rows + 2 * num_pairs
        if end != _HEAD.size + num_all * size or bool(num_all) != bool(num_dimensions):
            raise ValueError("the state of the speakers has a wrong length")
        if not 0 <= until_s <= MAX_UNTIL_S:
            raise ValueError("the state of the speakers is of no time")
        if not bool(num_pairs) == (version == _VERSION_WITH_PAIRS) or num_pairs > MAX_ALIKE_PAIRS:
            raise ValueError("the state of the speakers has a wrong number of pairs")
        found = [_row(data[at : at + size]) for at in range(_HEAD.size, end, size)]
        rows, alike = tuple(found[:num_rows]), found[num_rows:]
        pairs = tuple(AlikePair(*pair) for pair in zip(alike[::2], alike[1::2], strict=True))
        _check_labels(rows, pairs)
        return cls(until_s, rows, pairs)


def _check_labels(rows: tuple[SpeakerRow, ...], pairs: tuple[AlikePair, ...]) -> None:
    """A label has one row; a pair has a cluster's label and one of its own."""
    speakers = [row.label for row in rows] + [pair.other.label for pair in pairs]
    known = [pair.known.label for pair in pairs]
    if len(set(speakers)) != len(speakers) or len(set(known)) != len(known):
        raise ValueError("the state of the speakers has one of them twice")
    if not set(known) <= {row.label for row in rows}:
        raise ValueError("the state of the speakers has a pair of nobody")


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
