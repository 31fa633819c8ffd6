"""A transcript as lines that are shown whole after every change: what WhisperLiveKit's messages are made of.

Finals are lines for good. The stable text of an utterance in progress is one more line behind them, which
still grows; what may change is the buffer. A long silence is a line of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.asr.jobs import SAMPLE_RATE_HZ
from serve_app.events import Final, Partial
from serve_app.protocols.deltas import split_stable

SPEAKER = 1
SILENCE = -2
MIN_SILENCE_S = 5.0
"""Shorter pauses are no lines of their own, as in WhisperLiveKit."""

MAX_LINES = 400
"""Older lines are pruned: every full update repeats all of them."""
MAX_OPEN_UTTERANCES = 8


@dataclass(frozen=True, slots=True)
class Line:
    """Times in seconds from the session's first sample; `language` None: not known."""

    speaker: int
    text: str
    start_s: float
    end_s: float
    language: str | None = None


class TranscriptLines:
    """The state of one session; `num_pruned` lines have left it at the front."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._max_lines = max_lines
        self._finished: list[Line] = []
        self._open: dict[str, Partial] = {}
        self.num_pruned = 0
        self.lag_s = 0.0

    def partial(self, event: Partial) -> None:
        self._open[event.utterance_id] = event
        while len(self._open) > MAX_OPEN_UTTERANCES:
            self._open.pop(next(iter(self._open)))
        self.lag_s = event.timing.total_ms / 1000

    def final(self, event: Final) -> None:
        """Finals come in order: whatever was open before this utterance is not going to be finished."""
        if event.utterance_id in self._open:
            while next(iter(self._open)) != event.utterance_id:
                self._open.pop(next(iter(self._open)))
            self._open.pop(event.utterance_id)
        start_s, end_s = event.start_sample / SAMPLE_RATE_HZ, event.end_sample / SAMPLE_RATE_HZ
        before_s = self._finished[-1].end_s if self._finished else 0.0
        if start_s - before_s >= MIN_SILENCE_S:
            self._finished.append(Line(SILENCE, "", before_s, start_s))
        self._finished.append(Line(SPEAKER, event.text, start_s, end_s, event.language or None))
        excess = max(0, len(self._finished) - self._max_lines)
        del self._finished[:excess]
        self.num_pruned += excess
        self.lag_s = event.timing.total_ms / 1000

    def lines(self) -> list[Line]:
        return self._finished + [line for event in self._open.values() if (line := _growing(event)).text]

    def finished(self) -> list[Line]:
        """The lines that never change again."""
        return list(self._finished)

    def unfinished(self) -> str:
        """All text that is no finished line yet."""
        return " ".join(event.text for event in self._open.values() if event.text)

    def buffer(self) -> str:
        """Text that may still change."""
        return " ".join(text for event in self._open.values() if (text := split_stable(event)[1]))


def _growing(event: Partial) -> Line:
    start_s, end_s = event.start_sample / SAMPLE_RATE_HZ, event.end_sample / SAMPLE_RATE_HZ
    return Line(SPEAKER, split_stable(event)[0], start_s, end_s, event.language or None)


@dataclass(frozen=True, slots=True)
class LineChange:
    """From the lines sent last to those of now: drop `num_pruned` in front, cut what is left to
    `num_lines - len(new)`, add `new`."""

    num_lines: int
    num_pruned: int
    new: tuple[Line, ...]


class LineDiff:
    """What changed between one sending and the next."""

    def __init__(self) -> None:
        self._sent: list[Line] = []
        self._num_pruned = 0

    def change(self, lines: list[Line], num_pruned: int) -> LineChange:
        pruned = num_pruned - self._num_pruned
        kept = self._sent[pruned:]
        shorter = min(len(kept), len(lines))
        same = next((i for i in range(shorter) if kept[i] != lines[i]), shorter)
        self._sent, self._num_pruned = list(lines), num_pruned
        return LineChange(len(lines), pruned, tuple(lines[same:]))


def clock(seconds: float) -> str:
    """`H:MM:SS`, rounded down."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
