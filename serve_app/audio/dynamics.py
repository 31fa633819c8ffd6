"""Gain that follows the level of speech, and a soft limit: what libavfilter has only with a delay.

The gain is steered hop by hop from the hops before, never from what comes, so no sample waits; inside a hop
it moves in a straight line. Hops are counted from the first sample of the stream, and every sum adds in
order, so that the output is the same however the samples were cut into chunks.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from serve_app.audio.filters import Signal

SILENCE_DBFS: Final = -120.0
"""The level of nothing at all."""

LIMITER_KNEE: Final = 0.8
"""Share of full scale from which the soft limiter bends."""


def to_dbfs(amplitude: float) -> float:
    """Level of an amplitude, 1 being full scale; nothing is -120 dBFS."""
    return max(SILENCE_DBFS, 20 * math.log10(amplitude)) if amplitude > 0 else SILENCE_DBFS


def from_db(gain_db: float) -> float:
    return float(10.0 ** (gain_db / 20))


class AutoGain:
    """Brings speech to a target level, slowly; keeps still where there is no speech.

    A hop counts as speech where it stands `SPEECH_OVER_FLOOR_DB` over the noise floor (its least level,
    rising slowly) and over -70 dBFS. The speech level is the mean power of such hops over about 1.5 s, plain
    at first. The gain stays in [-max_db, max_db] and moves at most `MAX_SLEW_DB_PER_S` while speech goes on.
    """

    HOP_S: Final = 0.02
    SPEECH_OVER_FLOOR_DB: Final = 12.0
    SPEECH_MIN_DBFS: Final = -70.0
    FLOOR_RISE_DB_PER_S: Final = 3.0
    FLOOR_MIN_DBFS: Final = -80.0
    MEMORY_S: Final = 1.5
    SETTLED_S: Final = 0.2
    MAX_SLEW_DB_PER_S: Final = 20.0

    def __init__(self, target_dbfs: float, max_db: float, rate_hz: int) -> None:
        self._target_dbfs, self._max_db = target_dbfs, max_db
        self._hop_samples = round(self.HOP_S * rate_hz)
        self._ramp = np.arange(self._hop_samples, dtype=np.float64) / self._hop_samples
        self._filled = 0
        self._level = 0.0
        """Mean square of the part of a hop that has come."""
        self._floor_dbfs = 0.0
        self._power = 0.0
        self._num_speech_hops = 0
        self._gain_db = 0.0
        self._before = self._gain = 1.0

    def process(self, samples: Signal) -> Signal:
        """As many samples out as in, float64 `(n,)`."""
        if not len(samples):
            return samples
        hop = self._hop_samples
        end = self._filled + len(samples)
        rows = np.zeros((-(-end // hop), hop))
        rows.ravel()[self._filled : end] = samples
        levels = self._levels(rows)
        gains = [(self._before, self._gain)]
        for level in levels[: end // hop]:
            self._hear(level)
            self._before, self._gain = self._gain, from_db(self._gain_db)
            gains.append((self._before, self._gain))
        self._level = levels[-1] if end % hop else 0.0
        first = self._filled
        self._filled = end % hop
        ends = np.array(gains[: len(rows)])
        rows *= ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * self._ramp
        return rows.ravel()[first:end]

    def _levels(self, rows: Signal) -> list[float]:
        """Mean square of each hop so far; the first goes on from the part that came earlier."""
        squares = rows * rows / self._hop_samples
        if self._filled:
            squares[0, self._filled - 1] = self._level
        sums: list[float] = np.add.accumulate(squares, axis=1)[:, -1].tolist()
        return sums

    def _hear(self, power: float) -> None:
        """Set the gain behind a hop of this mean square."""
        level_dbfs = to_dbfs(math.sqrt(power))
        risen_dbfs = self._floor_dbfs + self.FLOOR_RISE_DB_PER_S * self.HOP_S
        self._floor_dbfs = max(self.FLOOR_MIN_DBFS, min(level_dbfs, risen_dbfs))
        if level_dbfs < max(self._floor_dbfs + self.SPEECH_OVER_FLOOR_DB, self.SPEECH_MIN_DBFS):
            return
        self._num_speech_hops = min(self._num_speech_hops + 1, round(self.MEMORY_S / self.HOP_S))
        self._power += (power - self._power) / self._num_speech_hops
        if self._num_speech_hops * self.HOP_S < self.SETTLED_S:
            return
        wanted_db = self._target_dbfs - to_dbfs(math.sqrt(self._power))
        wanted_db = min(self._max_db, max(-self._max_db, wanted_db))
        step_db = self.MAX_SLEW_DB_PER_S * self.HOP_S
        self._gain_db += min(step_db, max(-step_db, wanted_db - self._gain_db))


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
