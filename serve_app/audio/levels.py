"""How loud a stream is, and what is wrong with its sound: clipping, dead silence, too low a level, an offset.

Measured on whole windows of 100 ms with exact integer sums, so that the answers do not depend on how the
samples were cut into chunks. Clipping is judged by the newest second, an offset by the newest three.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from serve_app.audio.dynamics import to_dbfs
from serve_app.core.samples import FULL_SCALE, SAMPLE_RATE_HZ, Pcm16

WINDOWS_PER_S: Final = 10
OFFSET_WINDOWS: Final = 30
"""A mean over less is still moved by loud rumble."""

CLIPPING_PASSED_WINDOWS: Final = 100
"""10 s without it, lest every pause between sentences were its end."""

_CLIPPED: Final = int(FULL_SCALE) - 1
_SILENCE_BACK_DB: Final = 5.0
_LOW_LEVEL_BACK_DB: Final = 4.0
_OVER_FLOOR_DB: Final = 10.0
_FLOOR_RISE_DB: Final = 0.3
"""Per window: the background is the least level, rising by 3 dB a second."""

_CLEAR_SHARE: Final = 0.25
"""A warning that stands on a share or an offset is withdrawn at this much of its limit."""


class LevelProblem(StrEnum):
    CLIPPING = "clipping"
    DEAD_SILENCE = "dead_silence"
    LOW_LEVEL = "low_level"
    DC_OFFSET = "dc_offset"


@dataclass(frozen=True, slots=True)
class LevelWarning:
    """Something wrong with the sound, said once until it has passed (clipping: for 10 s).

    `at_sample`: from where on, counted from the start of the stream. `value`: the share of clipped samples,
    the level in dBFS (silence, low level; -120 for nothing at all), or the offset as a share of full scale.
    """

    kind: LevelProblem
    at_sample: int
    value: float


@dataclass(frozen=True, slots=True)
class LevelLimits:
    """From where on the meter warns. Raises `ValueError` on a limit that cannot be met.

    Silence must last `dead_silence_s`. The level is low where `low_level_s` of sound that stood out from the
    background never reached `low_level_dbfs`, which the syllables of speech at a usable level do.
    """

    clipped_share: float = 0.001
    dead_silence_dbfs: float = -70.0
    dead_silence_s: float = 5.0
    low_level_dbfs: float = -40.0
    low_level_s: float = 3.0
    dc_offset: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.clipped_share <= 1 or not 0 < self.dc_offset <= 1:
            raise ValueError("clipped_share and dc_offset: expected more than 0, at most 1")
        if not -120 < self.dead_silence_dbfs < self.low_level_dbfs < 0:
            raise ValueError("expected -120 < dead_silence_dbfs < low_level_dbfs < 0")
        if not (0.1 <= self.dead_silence_s <= 3600 and 0.1 <= self.low_level_s <= 600):
            raise ValueError("expected dead_silence_s of 0.1 to 3600 and low_level_s of 0.1 to 600")


@dataclass(frozen=True, slots=True)
class Levels:
    """The newest second: levels in dBFS (0: full-scale square wave), shares of samples and of full scale."""

    peak_dbfs: float
    rms_dbfs: float
    clipped_share: float
    dc_offset: float


class _Window(NamedTuple):
    """Exact sums over 100 ms; `peak` in sample steps."""

    peak: int
    total: int
    squares: int
    num_clipped: int
    rms_dbfs: float


class LevelMeter:
    """Follows one stream. Samples of a window that is not full yet are kept (100 ms at most)."""

    __slots__ = (
        "_floor_dbfs",
        "_limits",
        "_num_pending",
        "_num_windows",
        "_pending",
        "_raised",
        "_recent",
        "_silent_windows",
        "_standing_out",
        "_totals",
        "_unclipped_windows",
        "_window",
    )

    def __init__(self, rate_hz: int = SAMPLE_RATE_HZ, limits: LevelLimits | None = None) -> None:
        if rate_hz < 1_000:
            raise ValueError(f"rate_hz: expected at least 1000, got {rate_hz}")
        self._limits = limits or LevelLimits()
        self._window = rate_hz // WINDOWS_PER_S
        self._pending: list[Pcm16] = []
        self._num_pending = 0
        self._num_windows = 0
        self._silent_windows = 0
        self._unclipped_windows = 0
        self._recent: deque[_Window] = deque(maxlen=WINDOWS_PER_S)
        self._totals: deque[int] = deque(maxlen=OFFSET_WINDOWS)
        self._floor_dbfs = 0.0
        self._standing_out: deque[tuple[int, float]] = deque(
            maxlen=round(self._limits.low_level_s * WINDOWS_PER_S)
        )
        self._raised: frozenset[LevelProblem] = frozenset()

    @property
    def levels(self) -> Levels | None:
        """Of the newest second of whole windows; None before the first."""
        if not self._recent:
            return None
        num_samples = len(self._recent) * self._window
        mean_square = sum(window.squares for window in self._recent) / num_samples
        return Levels(
            peak_dbfs=to_dbfs(max(window.peak for window in self._recent) / FULL_SCALE),
            rms_dbfs=to_dbfs(mean_square**0.5 / FULL_SCALE),
            clipped_share=sum(window.num_clipped for window in self._recent) / num_samples,
            dc_offset=sum(window.total for window in self._recent) / num_samples / FULL_SCALE,
        )

    @property
    def problems(self) -> frozenset[LevelProblem]:
        """What was warned of and has not passed."""
        return self._raised

    def push(self, samples: Pcm16) -> list[LevelWarning]:
        """Take int16 `(n,)`, kept by reference until their window is full; give what has newly gone wrong."""
        if not len(samples):
            return []
        self._pending.append(samples)
        self._num_pending += len(samples)
        if self._num_pending < self._window:
            return []
        joined = np.concatenate(self._pending)
        end = len(joined) - len(joined) % self._window
        self._pending = [joined[end:].copy()]
        self._num_pending = len(joined) - end
        warnings: list[LevelWarning] = []
        for window in _measure(joined[:end].reshape(-1, self._window)):
            warnings += self._follow(window)
        return warnings

    def _follow(self, window: _Window) -> list[LevelWarning]:
        self._num_windows += 1
        self._recent.append(window)
        self._totals.append(window.total)
        silent = window.rms_dbfs < self._limits.dead_silence_dbfs
        self._silent_windows = self._silent_windows + 1 if silent else 0
        return [
            *self._on_silence(window),
            *self._on_low_level(window),
            *self._on_clipping(),
            *self._on_offset(),
        ]

    def _on_silence(self, window: _Window) -> list[LevelWarning]:
        limit_dbfs = self._limits.dead_silence_dbfs
        long_enough = self._silent_windows >= round(self._limits.dead_silence_s * WINDOWS_PER_S)
        over = window.rms_dbfs >= limit_dbfs + _SILENCE_BACK_DB
        return self._judge(
            LevelProblem.DEAD_SILENCE, long_enough, over, self._silent_windows, window.rms_dbfs
        )

    def _on_low_level(self, window: _Window) -> list[LevelWarning]:
        background_dbfs = max(self._floor_dbfs, self._limits.dead_silence_dbfs - _OVER_FLOOR_DB)
        if window.rms_dbfs >= background_dbfs + _OVER_FLOOR_DB:
            self._standing_out.append((self._num_windows, window.rms_dbfs))
        self._floor_dbfs = min(window.rms_dbfs, self._floor_dbfs + _FLOOR_RISE_DB)
        if not self._standing_out:
            return []
        loudest_dbfs = max(level_dbfs for _, level_dbfs in self._standing_out)
        full = len(self._standing_out) == self._standing_out.maxlen
        low = full and loudest_dbfs < self._limits.low_level_dbfs
        over = loudest_dbfs >= self._limits.low_level_dbfs + _LOW_LEVEL_BACK_DB
        windows_back = self._num_windows - self._standing_out[0][0] + 1
        return self._judge(LevelProblem.LOW_LEVEL, low, over, windows_back, loudest_dbfs)

    def _on_clipping(self) -> list[LevelWarning]:
        if len(self._recent) < WINDOWS_PER_S:
            return []
        share = sum(window.num_clipped for window in self._recent) / (WINDOWS_PER_S * self._window)
        limit = self._limits.clipped_share
        self._unclipped_windows = self._unclipped_windows + 1 if share <= _CLEAR_SHARE * limit else 0
        good = self._unclipped_windows >= CLIPPING_PASSED_WINDOWS
        return self._judge(LevelProblem.CLIPPING, share > limit, good, WINDOWS_PER_S, share)

    def _on_offset(self) -> list[LevelWarning]:
        if len(self._totals) < OFFSET_WINDOWS:
            return []
        offset = sum(self._totals) / (OFFSET_WINDOWS * self._window) / FULL_SCALE
        limit = self._limits.dc_offset
        good = abs(offset) <= _CLEAR_SHARE * limit
        return self._judge(LevelProblem.DC_OFFSET, abs(offset) > limit, good, OFFSET_WINDOWS, offset)

    def _judge(
        self, kind: LevelProblem, bad: bool, good: bool, windows_back: int, value: float
    ) -> list[LevelWarning]:
        """Warn where it turns bad, forget where it turns good, keep to what was said in between."""
        if kind in self._raised:
            if good:
                self._raised -= {kind}
            return []
        if not bad:
            return []
        self._raised |= {kind}
        return [LevelWarning(kind, (self._num_windows - windows_back) * self._window, value)]


def _measure(rows: Pcm16) -> Sequence[_Window]:
    """The sums of each window, int16 `(num_windows, window)`; exact, for they stay under 2^53."""
    wide = rows.astype(np.float64)
    highest, lowest = rows.max(axis=1).tolist(), rows.min(axis=1).tolist()
    totals, squares = wide.sum(axis=1).tolist(), np.einsum("ij,ij->i", wide, wide).tolist()
    windows = []
    for row, high, low, total, square in zip(rows, highest, lowest, totals, squares, strict=True):
        clipped = high >= _CLIPPED or low <= -_CLIPPED
        num_clipped = int(np.count_nonzero((row >= _CLIPPED) | (row <= -_CLIPPED))) if clipped else 0
        rms_dbfs = to_dbfs((square / len(row)) ** 0.5 / FULL_SCALE)
        windows.append(_Window(max(high, -low), int(total), int(square), num_clipped, rms_dbfs))
    return windows
