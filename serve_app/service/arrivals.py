"""When audio came in: what the lateness of a text is measured from."""

from __future__ import annotations

from bisect import bisect_left

MAX_MARKS = 2_000
_LEAST_APART_S = 0.01
"""Pieces that arrive closer together share a mark, the time of the first."""


class Arrivals:
    """Up to which sample had arrived when. Bounded: what is older than `MAX_MARKS` marks is forgotten."""

    def __init__(self) -> None:
        self._samples: list[int] = []
        self._times_s: list[float] = []

    def mark(self, end_sample: int, now_s: float) -> None:
        """All audio before `end_sample` is there by `now_s`, of a clock that never goes back. Marked again
        without new audio, it is as if it had arrived now: so does a request to close the utterance there."""
        if self._samples and end_sample <= self._samples[-1]:
            self._times_s[-1] = now_s
        elif self._samples and now_s - self._times_s[-1] < _LEAST_APART_S:
            self._samples[-1] = end_sample
        else:
            self._samples.append(end_sample)
            self._times_s.append(now_s)
        if len(self._samples) > MAX_MARKS:
            self.forget(self._samples[-MAX_MARKS // 2])

    def since(self, sample: int, now_s: float) -> float | None:
        """Seconds since the audio before `sample` was there; None where that is forgotten, or not yet so."""
        place = bisect_left(self._samples, sample)
        return now_s - self._times_s[place] if place < len(self._samples) else None

    def forget(self, sample: int) -> None:
        """Drop the marks before `sample`; they are not asked for any more."""
        place = bisect_left(self._samples, sample)
        del self._samples[:place], self._times_s[:place]
