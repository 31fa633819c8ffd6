"""Gain that follows the level: automatic gain, compression, and a soft limit behind both.

Both gains are steered hop by hop from the hops before, never from what comes, so no sample waits; inside a
hop the gain moves in a straight line. Hops are counted from the first sample of the stream, and every sum
adds in order, so that the output is the same however the samples were cut into chunks.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np

from serve_app.audio.filters import Signal, StageState, whole_offset

AUTO_GAIN_HOP_S: Final = 0.02
COMPRESSOR_HOP_S: Final = 0.002

SILENCE_DBFS: Final = -120.0
"""The level of nothing at all."""

LIMITER_KNEE: Final = 0.8
"""Share of full scale from which the soft limiter bends."""


def to_dbfs(amplitude: float) -> float:
    """Level of an amplitude, 1 being full scale; nothing is -120 dBFS."""
    return max(SILENCE_DBFS, 20 * math.log10(amplitude)) if amplitude > 0 else SILENCE_DBFS


def from_db(gain_db: float) -> float:
    return float(10.0 ** (gain_db / 20))


class GainControl(Protocol):
    """Decides the gain behind a hop from the level of that hop."""

    def next_gain_db(self, level: float) -> float:
        """`level`: mean square (automatic gain) or peak (compressor) of the hop that just ended."""

    @property
    def state(self) -> StageState: ...

    def restore(self, state: StageState) -> None: ...


class AutoGainControl:
    """Brings speech to a target level, slowly; keeps still while nobody speaks.

    A hop counts as speech where it stands `SPEECH_OVER_FLOOR_DB` over the noise floor (its least level,
    rising slowly) and over -70 dBFS. The speech level is the mean power of such hops over about 1.5 s, plain
    at first. The gain stays in [-max_db, max_db] and moves at most `MAX_SLEW_DB_PER_S` while speech goes on.
    """

    SPEECH_OVER_FLOOR_DB: Final = 12.0
    SPEECH_MIN_DBFS: Final = -70.0
    FLOOR_RISE_DB_PER_S: Final = 3.0
    FLOOR_MIN_DBFS: Final = -80.0
    MEMORY_S: Final = 1.5
    SETTLED_S: Final = 0.2
    MAX_SLEW_DB_PER_S: Final = 20.0

    __slots__ = ("_floor_dbfs", "_gain_db", "_hop_s", "_max_db", "_num_speech_hops", "_power", "_target_dbfs")

    def __init__(self, target_dbfs: float, max_db: float, hop_s: float = AUTO_GAIN_HOP_S) -> None:
        self._target_dbfs, self._max_db, self._hop_s = target_dbfs, max_db, hop_s
        self._floor_dbfs = 0.0
        self._power = 0.0
        self._num_speech_hops = 0
        self._gain_db = 0.0

    @property
    def state(self) -> StageState:
        return self._floor_dbfs, self._power, float(self._num_speech_hops), self._gain_db

    def restore(self, state: StageState) -> None:
        self._floor_dbfs, self._power, num_speech_hops, self._gain_db = state
        self._num_speech_hops = int(num_speech_hops)

    def next_gain_db(self, level: float) -> float:
        """`level`: mean square of the hop."""
        level_dbfs = to_dbfs(math.sqrt(level))
        risen_dbfs = self._floor_dbfs + self.FLOOR_RISE_DB_PER_S * self._hop_s
        self._floor_dbfs = max(self.FLOOR_MIN_DBFS, min(level_dbfs, risen_dbfs))
        least_dbfs = max(self._floor_dbfs + self.SPEECH_OVER_FLOOR_DB, self.SPEECH_MIN_DBFS)
        if level_dbfs >= least_dbfs:
            self._follow(level)
        return self._gain_db

    def _follow(self, power: float) -> None:
        memory_hops = round(self.MEMORY_S / self._hop_s)
        self._num_speech_hops = min(self._num_speech_hops + 1, memory_hops)
        self._power += (power - self._power) / self._num_speech_hops
        if self._num_speech_hops * self._hop_s < self.SETTLED_S:
            return
        wanted_db = self._target_dbfs - to_dbfs(math.sqrt(self._power))
        wanted_db = min(self._max_db, max(-self._max_db, wanted_db))
        step_db = self.MAX_SLEW_DB_PER_S * self._hop_s
        self._gain_db += min(step_db, max(-step_db, wanted_db - self._gain_db))


class CompressorControl:
    """What stands over the threshold grows only by 1/ratio: a feed-forward compressor on peaks.

    The gain is smoothed in decibels (Giannoulis, Massberg and Reiss 2012, "Digital Dynamic Range Compressor
    Design", section 3.2), one step per hop; attack and release are time constants.
    """

    __slots__ = ("_attack", "_makeup_db", "_reduction_db", "_release", "_slope", "_threshold_dbfs")

    def __init__(
        self,
        threshold_dbfs: float,
        ratio: float,
        attack_ms: float,
        release_ms: float,
        makeup_db: float,
        hop_s: float = COMPRESSOR_HOP_S,
    ) -> None:
        self._threshold_dbfs = threshold_dbfs
        self._slope = 1 - 1 / ratio
        self._attack = math.exp(-hop_s * 1000 / attack_ms)
        self._release = math.exp(-hop_s * 1000 / release_ms)
        self._makeup_db = makeup_db
        self._reduction_db = 0.0

    @property
    def state(self) -> StageState:
        return (self._reduction_db,)

    def restore(self, state: StageState) -> None:
        (self._reduction_db,) = state

    def next_gain_db(self, level: float) -> float:
        """`level`: peak of the hop."""
        wanted_db = self._slope * max(0.0, to_dbfs(level) - self._threshold_dbfs)
        keep = self._attack if wanted_db > self._reduction_db else self._release
        self._reduction_db = wanted_db + keep * (self._reduction_db - wanted_db)
        return self._makeup_db - self._reduction_db


class GainEnvelope:
    """Applies a control's gain sample by sample. `by_peak`: the control is told peaks, not mean squares."""

    __slots__ = ("_before", "_by_peak", "_control", "_filled", "_gain", "_hop", "_level", "_ramp")

    def __init__(
        self, control: GainControl, hop_samples: int, *, by_peak: bool, start_db: float = 0.0
    ) -> None:
        self._control = control
        self._hop = hop_samples
        self._by_peak = by_peak
        self._ramp = np.arange(hop_samples, dtype=np.float64) / hop_samples
        self._filled = 0
        self._level = 0.0
        self._before = self._gain = from_db(start_db)

    @property
    def state(self) -> StageState:
        """Samples into the hop and their level so far, the gains at its two ends, and the control's state."""
        return self._filled, self._level, self._before, self._gain, *self._control.state

    def restore(self, state: StageState) -> None:
        """Go on from where `state` was read. Raises `ValueError` for an offset outside the hop."""
        filled, self._level, self._before, self._gain, *control = state
        self._filled = whole_offset(filled, self._hop)
        self._control.restore(tuple(control))

    def process(self, samples: Signal) -> Signal:
        """As many samples out as in, float64 `(n,)`."""
        if not len(samples):
            return samples
        end = self._filled + len(samples)
        rows = np.zeros((-(-end // self._hop), self._hop))
        rows.ravel()[self._filled : end] = samples
        levels = self._levels(rows)
        gains = [(self._before, self._gain)]
        for level in levels[: end // self._hop]:
            self._before, self._gain = self._gain, from_db(self._control.next_gain_db(level))
            gains.append((self._before, self._gain))
        self._level = levels[-1] if end % self._hop else 0.0
        first = self._filled
        self._filled = end % self._hop
        ends = np.array(gains[: len(rows)])
        rows *= ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * self._ramp
        return rows.ravel()[first:end]

    def _levels(self, rows: Signal) -> list[float]:
        """Level of each hop so far; the first goes on from the part that came earlier."""
        if self._by_peak:
            peaks: list[float] = np.abs(rows).max(axis=1).tolist()
            peaks[0] = max(self._level, peaks[0])
            return peaks
        squares = rows * rows / self._hop
        if self._filled:
            squares[0, self._filled - 1] = self._level
        sums: list[float] = np.add.accumulate(squares, axis=1)[:, -1].tolist()
        return sums


def limit(samples: Signal) -> Signal:
    """Bend what goes over the knee so that nothing passes full scale: `k + (1 - k) u / (1 + u)`.

    Slope 1 at the knee; a rational curve, because its roundings are the same on every machine.
    """
    size = np.abs(samples)
    if not len(size) or size.max() <= LIMITER_KNEE:
        return samples
    over = np.maximum(size - LIMITER_KNEE, 0.0) / (1 - LIMITER_KNEE)
    bent = np.minimum(size, LIMITER_KNEE) + (1 - LIMITER_KNEE) * over / (1 + over)
    limited: Signal = np.copysign(bent, samples)
    return limited
