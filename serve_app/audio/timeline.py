"""Where a decoded frame belongs: the times of a file against the samples that came out of it so far.

A file may begin its sound late, or leave stretches out (a microphone that was muted, packets that were lost):
what a player shows at 15.0 s must be sample 240,000 here too. Times that are a little off are those of the
coarse clocks of containers, and of encoders' delays: samples follow one another then.
"""

from __future__ import annotations

import math
from typing import Final

from serve_app.core.samples import SAMPLE_RATE_HZ

TOLERANCE_S: Final = 0.1
"""Differences below this add up to nothing; above it, silence is put in."""
RESTART_S: Final = 1.0
_FRAMES_TO_BELIEVE: Final = 3
"""So many frames in a row that lie before what was decoded are a clock that began anew; fewer, a mistake."""


class Timeline:
    """One container's times. `start_s`: the time in it at which sample `position` is; None: that of the first
    frame."""

    def __init__(self, start_s: float | None, position: int = 0) -> None:
        self._position = float(position)
        self._zero_s = None if start_s is None else start_s - position / SAMPLE_RATE_HZ
        self._num_before = 0

    @property
    def position(self) -> float:
        """Of the next frame, in samples at 16 kHz."""
        return self._position

    def gap(self, time_s: float | None) -> int:
        """Samples of silence between the last frame and one of this time: 0 where it follows at once."""
        if time_s is None or not math.isfinite(time_s):
            return 0
        if self._zero_s is None:
            self.follow(time_s)
        assert self._zero_s is not None
        late = (time_s - self._zero_s) * SAMPLE_RATE_HZ - self._position
        self._num_before = self._num_before + 1 if late < -RESTART_S * SAMPLE_RATE_HZ else 0
        if self._num_before >= _FRAMES_TO_BELIEVE:
            self.follow(time_s)
        return round(late) if late > TOLERANCE_S * SAMPLE_RATE_HZ else 0

    def advance(self, num_samples: float) -> None:
        """So much was put behind what was there, in samples at 16 kHz."""
        self._position += num_samples

    def follow(self, time_s: float) -> None:
        """From here on this time is that of the next frame, in place of the one before."""
        self._zero_s = time_s - self._position / SAMPLE_RATE_HZ
        self._num_before = 0
