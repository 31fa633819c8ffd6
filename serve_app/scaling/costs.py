"""What a batch costs: seconds of one worker for so many seconds of audio, measured or estimated.

    busy = fixed_s + per_longest * longest item + per_audio * all items together

Launching and the decoder's steps are paid once a batch (they follow its longest item); arithmetic is paid for
every second in it. On a CPU, where work is not shared, only the last part is large.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MIN_SAMPLES = 8
_LEAST_S = 1e-4


@dataclass(frozen=True, slots=True)
class DecodeSample:
    """One batch that was timed: its items' seconds of audio and the seconds it took."""

    audio_s: tuple[float, ...]
    busy_s: float


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Seconds; `spread` is what batches took over what this says: ratios, of mean 1, equally likely."""

    fixed_s: float
    per_longest: float = 0.0
    per_audio: float = 0.0
    spread: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        parts = (self.fixed_s, self.per_longest, self.per_audio, *self.spread)
        if not self.spread or not all(math.isfinite(part) and part >= 0 for part in parts):
            raise ValueError("costs and their spread must be finite and not negative")

    def mean_s(self, audio_s: Sequence[float]) -> float:
        """The mean time of a batch of these items."""
        return max(_LEAST_S, self.fixed_s + self.per_longest * max(audio_s) + self.per_audio * sum(audio_s))

    def scaled(self, factor: float) -> DecodeCost:
        """The same work on something `factor` times slower."""
        return DecodeCost(
            self.fixed_s * factor, self.per_longest * factor, self.per_audio * factor, self.spread
        )

    @classmethod
    def fitted(cls, samples: Iterable[DecodeSample]) -> DecodeCost:
        """The cost that fits best (least squares, no part below 0), with what is left over as the spread.

        Without batches of several items the longest and the sum are the same; then the sum gets it all.
        Raises `ValueError` for fewer than `MIN_SAMPLES`, or samples that are no times.
        """
        known = list(samples)
        if len(known) < MIN_SAMPLES:
            raise ValueError(f"a decode cost needs {MIN_SAMPLES} timed batches, got {len(known)}")
        if any(not s.audio_s or min(s.audio_s) <= 0 or s.busy_s <= 0 for s in known):
            raise ValueError("timed batches need audio and time")
        rows = np.array([[1.0, max(s.audio_s), sum(s.audio_s)] for s in known])
        times = np.array([s.busy_s for s in known])
        parts = _not_negative(rows, times, batched=any(len(s.audio_s) > 1 for s in known))
        cost = cls(*parts)
        ratios = np.array([s.busy_s / cost.mean_s(s.audio_s) for s in known])
        ratios /= ratios.mean()
        return cls(*parts, spread=tuple(float(ratio) for ratio in ratios))


def _not_negative(rows: np.ndarray, times: np.ndarray, *, batched: bool) -> tuple[float, float, float]:
    """Least squares over the columns that help: those that would come out negative are left out in turn."""
    used = [0, 1, 2] if batched else [0, 2]
    while True:
        solution = np.linalg.lstsq(rows[:, used], times, rcond=None)[0]
        if len(used) == 1 or solution.min() >= 0:
            break
        used.pop(int(np.argmin(solution)))
    parts = [0.0, 0.0, 0.0]
    for column, value in zip(used, solution, strict=True):
        parts[column] = max(0.0, float(value))
    return parts[0], parts[1], parts[2]
