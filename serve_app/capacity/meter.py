"""How fast a recogniser decodes and how much audio comes in: what its replica tells the scaling policy.

Sums that forget: arrivals over `ARRIVAL_TIME_S`, batches over `SPEED_TIME_S` (exponential decay). The
capacity is that of full batches, from the line `busy = fixed + slope * audio` through the batches seen (least
squares, decayed), since a replica with little to do decodes small batches and would look slower than it is.
Where unequal jobs keep batches from filling, it is too high; then the audio that waits says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ARRIVAL_TIME_S = 10.0
SPEED_TIME_S = 60.0
WANTED_INTERIM_S = 0.5
"""Interims come as often as there is room for them. More often than this they are no reason for a replica."""
MIN_BATCHES = 2.5
"""Batches, the older ones counting less, before a speed is believed."""
_LEAST_SPREAD = 0.1
"""Batches whose lengths vary less than this share of their mean say nothing of a slope."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one replica measured. `arriving`, `capacity` and that of finals by their own model alone, in
    seconds of audio per second; 0 is not known yet."""

    arriving: float = 0.0
    capacity: float = 0.0
    finals: float = 0.0


@dataclass(slots=True)
class _Batches:
    """Decayed sums over batches of their audio x and busy seconds y."""

    at_s: float = 0.0
    count: float = 0.0
    items: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def add(self, num_items: int, audio_s: float, busy_s: float, now_s: float) -> None:
        keep = _decay(now_s - self.at_s, SPEED_TIME_S)
        self.at_s = max(self.at_s, now_s)
        self.count = self.count * keep + 1
        self.items = self.items * keep + num_items
        self.x = self.x * keep + audio_s
        self.y = self.y * keep + busy_s
        self.xx = self.xx * keep + audio_s * audio_s
        self.xy = self.xy * keep + audio_s * busy_s

    def speed(self, max_batch: int) -> float:
        """Seconds of audio that one worker decodes per second in full batches; 0: not known."""
        if self.count < MIN_BATCHES or self.x <= 0 or self.y <= 0:
            return 0.0
        full_s = max_batch * self.x / max(self.items, 1e-9)
        mean_x, mean_y = self.x / self.count, self.y / self.count
        spread = self.xx / self.count - mean_x**2
        if spread <= (_LEAST_SPREAD * mean_x) ** 2:
            return mean_x / mean_y
        slope = (self.xy / self.count - mean_x * mean_y) / spread
        slope = min(max(slope, 0.0), mean_y / mean_x)  # a line through the mean that falls nowhere below 0
        return full_s / (mean_y + slope * (full_s - mean_x))


class SpeedMeter:
    """Fed by one recogniser with all its work; `now_s` is any clock that only goes forward."""

    def __init__(self, num_workers: int, max_batch: int, max_recording_batch: int = 1) -> None:
        self._num_workers = num_workers
        self._max_batch = max_batch
        self._max_recording_batch = max_recording_batch
        self._arrived_s = 0.0
        self._arrived_at_s = 0.0
        self._began_s: float | None = None
        self._live = _Batches()
        self._recordings = _Batches()
        self._finals = _Batches()
        self._last_speed = 0.0

    def arrived(self, audio_s: float, now_s: float) -> None:
        """Live work came: finals and interims. Recordings are judged by what waits of them."""
        if self._began_s is None:
            self._began_s = now_s
        self._arrived_s = self._arrived_s * _decay(now_s - self._arrived_at_s, ARRIVAL_TIME_S) + audio_s
        self._arrived_at_s = max(self._arrived_at_s, now_s)

    def decoded(
        self, num_items: int, audio_s: float, busy_s: float, now_s: float, *, live: bool, final: bool = False
    ) -> None:
        """A worker was busy with a batch for so long; `final`: of finals, with their own model."""
        if num_items > 0 and audio_s > 0 and busy_s > 0:
            (self._live if live else self._recordings).add(num_items, audio_s, busy_s, now_s)
            if final:
                self._finals.add(num_items, audio_s, busy_s, now_s)

    def figures(self, now_s: float) -> Figures:
        """As of now. The capacity is that of live work, of recordings where there was none, and the last one
        known where there was a pause."""
        speed = self._live.speed(self._max_batch) or self._recordings.speed(self._max_recording_batch)
        self._last_speed = speed or self._last_speed
        finals = self._finals.speed(self._max_batch)
        return Figures(
            self._arriving(now_s), self._last_speed * self._num_workers, finals * self._num_workers
        )

    def _arriving(self, now_s: float) -> float:
        if self._began_s is None:
            return 0.0
        kept = self._arrived_s * _decay(now_s - self._arrived_at_s, ARRIVAL_TIME_S)
        # The window may reach back to before the start; the first job alone is no rate.
        seen = 1.0 - _decay(max(now_s - self._began_s, ARRIVAL_TIME_S / 2), ARRIVAL_TIME_S)
        return kept / (ARRIVAL_TIME_S * seen)


def demand_s(audio_s: float, fresh_s: float | None = None) -> float:
    """Seconds of audio that a live job asks to be decoded; of an interim, with `fresh_s` that the one before
    it had not, the share that it would ask for if they came every `WANTED_INTERIM_S`."""
    if fresh_s is None:
        return audio_s
    return audio_s * min(1.0, max(0.0, fresh_s) / WANTED_INTERIM_S)


def _decay(elapsed_s: float, time_s: float) -> float:
    return math.exp(-max(0.0, elapsed_s) / time_s)
