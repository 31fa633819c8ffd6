"""What a session remembers of its speakers, fit for a resume ticket, and who keeps which label.

version u8 | num_speakers u8 | num_dimensions u16 | until_s f64 |
per speaker: label u8 | weight_s f32 | scale f32 | int8 * num_dimensions          little-endian
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.speakers.live.clustering import Clusters, Floats, Ints

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
    valid = label < MAX_LIVE_SPEAKERS and 0 < weight_s <= MAX_WEIGHT_S and 0 < scale <= 1.0
    length = (
        scale * math.dist(np.frombuffer(steps, np.int8).tolist(), [0] * len(steps)) if valid else math.inf
    )
    if not length <= 1.1:
        raise ValueError("the state of the speakers holds a speaker that cannot be")
    return SpeakerRow(label, weight_s, scale, steps)


def _float32(value: float) -> float:
    return float(np.float32(value))


UNNAMED = -1


def name_clusters(
    clusters: Clusters,
    had: Ints,
    claims: Floats,
    evidence_s: Floats,
    free: Sequence[int],
    needed_s: float,
) -> Ints:
    """Of each cluster: the label of which it holds most, else a new one, else that of the nearest cluster.

    Of every row of the clustering, `had` is its label before (or `UNNAMED`), `claims` what that counts, and
    `evidence_s` the seconds of clear speech in it. A new label, the first of `free` that no cluster holds,
    takes `needed_s`; to keep one, half of that is enough.
    """
    evidence = largest_of_each(clusters.members, evidence_s)
    held = np.zeros((len(evidence), MAX_LIVE_SPEAKERS))
    named = had != UNNAMED
    np.add.at(held, (clusters.members[named], had[named]), claims[named])
    labels = _claimed(held, evidence >= needed_s / 2)
    for cluster in np.flatnonzero(labels == UNNAMED).tolist():
        left = [label for label in free if label not in labels]
        if left and (evidence[cluster] >= needed_s or not (labels != UNNAMED).any()):
            labels[cluster] = left[0]
    if not (labels != UNNAMED).any():
        labels = _claimed(held, evidence >= 0)
    chosen = np.flatnonzero(labels != UNNAMED)
    for cluster in np.flatnonzero(labels == UNNAMED).tolist():
        nearest = (clusters.means[chosen] @ clusters.means[cluster]).argmax()
        labels[cluster] = labels[chosen[nearest]]
    return labels


def _claimed(held: npt.NDArray[np.float64], clear: npt.NDArray[np.bool_]) -> Ints:
    """Of each cluster that is `clear`: the label on which it has the largest claim left; no label twice.

    `held` `(num_clusters, num_labels)`: the claim of each cluster on each label.
    """
    held = held.copy()
    labels = np.full(len(held), UNNAMED)
    while held.max(initial=0) > 0:
        cluster, label = divmod(int(held.argmax()), held.shape[1])
        if clear[cluster]:
            labels[cluster] = label
            held[:, label] = 0
        held[cluster] = 0
    return labels


def largest_of_each(members: Ints, values: Floats) -> Floats:
    """The largest value of each cluster."""
    largest = np.zeros(int(members.max()) + 1, np.float32)
    np.maximum.at(largest, members, values)
    return largest
