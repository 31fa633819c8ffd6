"""Which stretches of a recording to decode: speech with its padding, in windows that the decoder likes.

    region   speech, from the first window at or over `threshold` to the last at or over `threshold - 0.15`
             before `min_silence_ms` under it; dropped where less than `min_speech_ms` of it is voiced
    piece    a region, or part of one that was longer than the target: cut in the middle of the first pause
             after the target; without any pause, at the quietest window before the maximum
    window   neighbouring pieces joined while they stay within the target and their gaps are short; padded,
             but never into the neighbour's speech

Windows come in order and do not overlap; every sample of every kept region is in exactly one of them.
Shorter windows are cheaper to encode; longer ones give the decoder context, and are fewer: hence the target.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from serve_app.core.samples import SAMPLE_RATE_HZ, ms_to_samples
from serve_app.vad.detector import WINDOW_SAMPLES
from serve_app.vad.endpointer import HYSTERESIS
from serve_app.vad.options import EndpointingOptions

TARGET_WINDOW_S: Final = 20.0
MAX_WINDOW_S: Final = 29.0
MAX_GAP_S: Final = 2.0

_PAUSE_WINDOWS: Final = 5
"""160 ms under the lower threshold: between two words, not inside one."""
_MIN_REST_SAMPLES: Final = SAMPLE_RATE_HZ
"""A forced cut leaves at least this much behind it: very short windows make Whisper invent words."""


@dataclass(frozen=True, slots=True)
class AudioWindow:
    """Samples `[start_sample, end_sample)` of a recording, to be decoded in one go."""

    start_sample: int
    end_sample: int


@dataclass(slots=True)
class _Piece:
    """Speech not yet handed out; a cut side touches its neighbour and gets no padding."""

    start: int
    end: int
    cut_start: bool
    cut_end: bool


class WindowPlanner:
    """Plans while the detector is still running: `push` probabilities, take the windows that are settled.

    `num_samples`: length of the recording; its last, incomplete window counts as a whole one. Where it is
    not known yet, `ends_at` says it before the probabilities of that last window are pushed. With
    `options.enabled` False nothing is dropped, and `push` takes any measure of loudness.
    Holds back at most a few windows; memory does not grow with the recording.
    """

    def __init__(
        self,
        options: EndpointingOptions,
        *,
        num_samples: int | None = None,
        target_window_s: float = TARGET_WINDOW_S,
        max_window_s: float = MAX_WINDOW_S,
        max_gap_s: float = MAX_GAP_S,
    ) -> None:
        max_samples = round(max_window_s * SAMPLE_RATE_HZ)
        if max_samples < 16 * WINDOW_SAMPLES or target_window_s <= 0 or max_gap_s < 0:
            raise ValueError(f"windows of {target_window_s} to {max_window_s} s, gaps of {max_gap_s} s")
        self._everything = not options.enabled
        self._num_samples = sys.maxsize if num_samples is None else num_samples
        self._threshold = options.threshold
        self._low = options.threshold - HYSTERESIS
        self._min_speech = ms_to_samples(options.min_speech_ms)
        self._min_silence = max(ms_to_samples(options.min_silence_ms), WINDOW_SAMPLES)
        self._pre_roll = min(ms_to_samples(options.pre_roll_ms), max_samples // 4)
        self._pad = min(ms_to_samples(options.speech_pad_ms), max_samples // 4)
        self._longest = max_samples - self._pre_roll - self._pad
        self._target = min(round(target_window_s * SAMPLE_RATE_HZ), self._longest)
        self._max_gap = max(round(max_gap_s * SAMPLE_RATE_HZ), self._pre_roll + self._pad)
        self._position = 0  # end of the newest window seen
        self._is_open = False
        self._start = 0  # of the piece that is open
        self._starts_at_cut = False
        self._voiced = 0
        self._voiced_end = 0
        self._quiet_run = 0
        self._probs: list[float] = []  # of the windows that end after `_start`
        self._waiting: _Piece | None = None
        self._planned_end = 0
        self._out: list[AudioWindow] = []

    def ends_at(self, num_samples: int) -> None:
        """The length of the recording."""
        self._num_samples = num_samples

    @property
    def needed_from(self) -> int:
        """The first sample that a window still to come may begin at."""
        begins = self._position
        if self._waiting is not None:
            begins = self._waiting.start
        elif self._is_open:
            begins = self._start
        return max(begins - self._pre_roll, self._planned_end)

    def push(self, probs: Iterable[float]) -> list[AudioWindow]:
        """Take the next windows' speech probabilities; return the windows that are settled now."""
        for probability in probs:
            self._step(float(probability))
        return self._take()

    def finish(self) -> list[AudioWindow]:
        """The rest; speech that has only begun at the very end is kept, however short."""
        if self._is_open:
            end = self._num_samples if self._everything else self._voiced_end
            self._add(min(end, self._num_samples), cut_end=False)
            self._is_open = False
        self._emit(None)
        return self._take()

    def _take(self) -> list[AudioWindow]:
        out, self._out = self._out, []
        return out

    def _step(self, probability: float) -> None:
        begin = self._position
        self._position += WINDOW_SAMPLES
        if not self._is_open:
            if probability < self._threshold and not self._everything:
                if self._waiting is not None and self._position - self._waiting.end > self._max_gap:
                    self._emit(None)
                return
            self._is_open = True
            self._start, self._starts_at_cut = begin, False
            self._voiced, self._voiced_end, self._quiet_run = 0, begin, 0
            self._probs = []
        self._probs.append(probability)
        self._quiet_run = self._quiet_run + 1 if probability < self._low else 0
        if self._quiet_run == 0 or self._everything:
            self._voiced += WINDOW_SAMPLES
            self._voiced_end = self._position
        elif self._position - self._voiced_end >= self._min_silence:
            self._close()
            return
        self._cut_if_long()

    def _close(self) -> None:
        self._is_open = False
        if self._starts_at_cut or self._voiced >= self._min_speech:
            self._add(self._voiced_end, cut_end=False)

    def _cut_if_long(self) -> None:
        length = self._position - self._start
        # Loudness has no threshold to pause under: without a detector only the quietest window counts.
        if length >= self._target and self._quiet_run >= _PAUSE_WINDOWS and not self._everything:
            self._cut(self._position - self._quiet_run * WINDOW_SAMPLES // 2)
        elif length >= self._longest:
            self._cut(self._quietest())

    def _quietest(self) -> int:
        """The sample to cut at: the middle of the quietest window, judged with its neighbours (1, 2, 1)."""
        probs = self._probs
        num = len(probs)
        first = min(self._target // 2, self._longest // 2) // WINDOW_SAMPLES
        last = num - max(2, min(_MIN_REST_SAMPLES, self._longest // 4) // WINDOW_SAMPLES)
        quietest = min(
            range(max(first, 1), last), key=lambda at: probs[at - 1] + 2 * probs[at] + probs[at + 1]
        )
        return self._position - (num - quietest) * WINDOW_SAMPLES + WINDOW_SAMPLES // 2

    def _cut(self, at_sample: int) -> None:
        """End the open piece here; the next one begins here."""
        self._add(at_sample, cut_end=True)
        self._start, self._starts_at_cut = at_sample, True
        self._voiced_end = max(self._voiced_end, at_sample)
        self._probs = self._probs[len(self._probs) - (self._position - at_sample) // WINDOW_SAMPLES :]

    def _add(self, end: int, *, cut_end: bool) -> None:
        """Join the open piece to the waiting one, or let it wait in its place."""
        if end <= self._start:
            return
        waiting = self._waiting
        if (
            waiting is not None
            and self._start - waiting.end <= self._max_gap
            and end - waiting.start <= self._target
        ):
            waiting.end, waiting.cut_end = end, cut_end
        else:
            self._emit(self._start)
            self._waiting = _Piece(self._start, end, self._starts_at_cut, cut_end)
        if cut_end:
            self._emit(end)

    def _emit(self, next_start: int | None) -> None:
        """Hand out what waits, padded; a gap too short for both paddings is shared."""
        piece = self._waiting
        if piece is None:
            return
        self._waiting = None
        start, end = piece.start, piece.end
        if not piece.cut_start:
            start = max(start - self._pre_roll, self._planned_end)
        if not piece.cut_end:
            end += self._pad
            if next_start is not None:
                gap = next_start - piece.end
                end = min(end, max(piece.end + gap // 2, next_start - self._pre_roll))
        end = min(end, self._num_samples)
        self._planned_end = end
        self._out.append(AudioWindow(start, end))


def plan_windows(
    probs: Iterable[float],
    options: EndpointingOptions,
    *,
    num_samples: int,
    target_window_s: float = TARGET_WINDOW_S,
    max_window_s: float = MAX_WINDOW_S,
    max_gap_s: float = MAX_GAP_S,
) -> list[AudioWindow]:
    """The windows of a whole recording from its probabilities, one for each 512 samples."""
    planner = WindowPlanner(
        options,
        num_samples=num_samples,
        target_window_s=target_window_s,
        max_window_s=max_window_s,
        max_gap_s=max_gap_s,
    )
    return planner.push(probs) + planner.finish()
