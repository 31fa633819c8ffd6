"""A transcript as lines that are shown whole after every change: what WhisperLiveKit's messages are made of.

Finals are lines for good, but for their speakers. The stable text of an utterance in progress is one more
line behind them, which still grows; what may change is the buffer. A long silence is a line of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

from serve_app.core.events import Final, Partial, SpeakerRevision
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.protocols.deltas import split_stable
from serve_app.protocols.speaker_runs import MAX_WAITING, WaitingFinals, all_known, revised, speaker_runs

SPEAKER = 1
"""Where speakers are not told apart."""
UNKNOWN = 0
"""Where it is not known yet: WhisperLiveKit's own page then says that speakers are being worked out."""
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


@dataclass(slots=True)
class _Block:
    """The lines of one final, and the silence before it; `final` None: some of them have been pruned."""

    final: Final | None
    silence: list[Line]
    lines: list[Line]

    def __len__(self) -> int:
        return len(self.silence) + len(self.lines)

    def prune(self, num_lines: int) -> None:
        self.final = None
        kept = (self.silence + self.lines)[num_lines:]
        self.silence, self.lines = [], kept


class TranscriptLines:
    """The state of one session; `num_pruned` lines have left it at the front.

    `speakers`: the session tells them apart, and a final is a line for each stretch of one speaker. A
    revision changes lines, unless `append_only`: then a final waits for its speakers before it becomes lines,
    as `WaitingFinals` says.
    """

    def __init__(
        self, max_lines: int = MAX_LINES, *, speakers: bool = False, append_only: bool = False
    ) -> None:
        self._max_lines = max_lines
        self._speakers = speakers
        self._append_only = append_only
        self._blocks: deque[_Block] = deque()
        self._num_lines = 0
        self._last_end_s = 0.0
        self._heard_s = 0.0
        self._waiting = WaitingFinals()
        self._open: dict[str, Partial] = {}
        self.num_pruned = 0
        self.lag_s = 0.0

    def partial(self, event: Partial) -> None:
        self._open[event.utterance_id] = event
        while len(self._open) > MAX_OPEN_UTTERANCES:
            self._open.pop(next(iter(self._open)))
        self.lag_s = event.timing.total_ms / 1000
        self._heard_s = max(self._heard_s, event.end_sample / SAMPLE_RATE_HZ)

    def final(self, event: Final) -> None:
        """Finals come in order: what was open before this utterance is not going to be finished."""
        if event.utterance_id in self._open:
            while next(iter(self._open)) != event.utterance_id:
                self._open.pop(next(iter(self._open)))
            self._open.pop(event.utterance_id)
        self.lag_s = event.timing.total_ms / 1000
        self._heard_s = max(self._heard_s, event.end_sample / SAMPLE_RATE_HZ)
        if event.text:
            self._append(self._waiting.add(event) if self._append_only else (event,))

    def revise(self, event: SpeakerRevision) -> bool:
        """Whether anything is shown otherwise now."""
        due = self._waiting.revise(event)
        if due is not None:
            self._append(due)
            return True
        for block in reversed(self._blocks) if not self._append_only else ():
            if block.final is not None and block.final.utterance_id == event.utterance_id:
                return self._rewrite(block, revised(block.final, event))
        return False

    def settle(self) -> bool:
        """Nothing more comes: what waits for its speakers becomes lines without; whether anything did."""
        due = self._waiting.settle()
        self._append(due)
        return bool(due)

    def _append(self, finals: Iterable[Final]) -> None:
        for final in finals:
            lines = self._lines_of(final)
            silence = []
            if lines[0].start_s - self._last_end_s >= MIN_SILENCE_S:
                silence.append(Line(SILENCE, "", self._last_end_s, lines[0].start_s))
            self._last_end_s = lines[-1].end_s
            self._blocks.append(_Block(final, silence, lines))
            self._num_lines += len(lines) + len(silence)
            self._prune()

    def _rewrite(self, block: _Block, final: Final) -> bool:
        before, num_before = block.final, len(block.lines)
        block.final, block.lines = final, self._lines_of(final)
        self._num_lines += len(block.lines) - num_before
        self._prune()
        return final != before

    def _prune(self) -> None:
        while (excess := self._num_lines - self._max_lines) > 0:
            first = self._blocks[0]
            pruned = min(excess, len(first))
            if pruned == len(first):
                self._blocks.popleft()
            else:
                first.prune(pruned)
            self._num_lines -= pruned
            self.num_pruned += pruned

    def _lines_of(self, final: Final) -> list[Line]:
        language = final.language or None
        if not self._speakers:
            start_s, end_s = final.start_sample / SAMPLE_RATE_HZ, final.end_sample / SAMPLE_RATE_HZ
            return [Line(SPEAKER, final.text, start_s, end_s, language)]
        return [
            Line(_number(run.speaker), run.text, run.start_s, run.end_s, language)
            for run in speaker_runs(final)
        ]

    def lines(self) -> list[Line]:
        speaker = UNKNOWN if self._speakers else SPEAKER
        growing = (_growing(event, speaker) for event in self._open.values())
        return self.finished() + [line for line in growing if line.text]

    def finished(self) -> list[Line]:
        """The lines whose text never changes again."""
        return [line for block in self._blocks for line in block.silence + block.lines]

    def unfinished(self) -> str:
        """All text that has no final yet."""
        return " ".join(event.text for event in self._open.values() if event.text)

    def buffer(self) -> str:
        """Text that may still change."""
        return " ".join(text for event in self._open.values() if (text := split_stable(event)[1]))

    def unattributed(self) -> str:
        """Text of finals that wait for their speakers."""
        return " ".join(final.text for final in self._waiting)

    @property
    def speaker_lag_s(self) -> float:
        """Audio since the first of the newest finals some of whose speakers are not known."""
        if not self._speakers:
            return 0.0
        newest = [block.final for block in islice(reversed(self._blocks), MAX_WAITING)][::-1]
        for final in chain(newest, self._waiting):
            if final is not None and not all_known(final):
                return max(0.0, self._heard_s - final.start_sample / SAMPLE_RATE_HZ)
        return 0.0


def _number(speaker: int | None) -> int:
    return UNKNOWN if speaker is None else speaker + 1


def _growing(event: Partial, speaker: int) -> Line:
    start_s, end_s = event.start_sample / SAMPLE_RATE_HZ, event.end_sample / SAMPLE_RATE_HZ
    return Line(speaker, split_stable(event)[0], start_s, end_s, event.language or None)


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
