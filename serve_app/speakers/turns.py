"""Who spoke when in a recording: turns, the words in them, labels on the wire. Speakers count from 0.

A word belongs to the speaker who holds most of it, one between turns to the nearest turn. Those turns are the
exclusive ones, so that a word has one speaker where two talk at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from serve_app.core.jobs import Word

MAX_SPEAKERS = 100
SpeakerBackend: TypeAlias = Literal["pyannote", "sortformer", "channel"] | str
"""What tells speakers apart on a server: ours, or a diarizer that another package brings."""

NumSpeakers: TypeAlias = Annotated[
    int, Meta(ge=1, le=MAX_SPEAKERS, description="The exact number of speakers; without it they are counted.")
]
MinSpeakers: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SPEAKERS, description="Not fewer speakers.")]
MaxSpeakers: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SPEAKERS, description="Not more speakers.")]


class SpeakerMode(StrEnum):
    """How speakers are told apart: not at all, by their voices, or by the channel that they are heard on."""

    OFF = "off"
    VOICE = "voice"
    CHANNEL = "channel"

    @classmethod
    def of(cls, backend: SpeakerBackend) -> SpeakerMode:
        return cls.CHANNEL if backend == "channel" else cls.VOICE


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's stretch, in seconds from the recording's first sample."""

    start_s: float
    end_s: float
    speaker: int


@dataclass(frozen=True, slots=True)
class SpeakerCounts:
    """How many speakers there may be; `exact` wins over the bounds. `ValueError` where they disagree."""

    exact: NumSpeakers | None = None
    least: MinSpeakers | None = None
    most: MaxSpeakers | None = None

    def __post_init__(self) -> None:
        for count in (self.exact, self.least, self.most):
            if count is not None and not 1 <= count <= MAX_SPEAKERS:
                raise ValueError(f"a number of speakers must be between 1 and {MAX_SPEAKERS}")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("min_speakers is greater than max_speakers")

    @property
    def at_least(self) -> int:
        return self.exact or self.least or 1

    @property
    def at_most(self) -> int | None:
        return self.exact or self.most


@dataclass(frozen=True, slots=True)
class Diarization:
    """What a backend found. `turns` may overlap where people talk at once; `exclusive` never do: at any time
    they name the one speaker that is heard best. Both are in order of their starts; speakers are numbered
    in the order in which they first speak."""

    turns: tuple[Turn, ...]
    exclusive: tuple[Turn, ...]
    num_speakers: int


def speaker_label(index: int) -> str:
    """`SPEAKER_01`, `SPEAKER_02`, ...: at least two digits, counted from 1."""
    return f"SPEAKER_{index + 1:02d}"


def openai_label(index: int) -> str:
    """`A` to `Z`, then `AA`, `AB`, ..."""
    letters, rest = "", index + 1
    while rest:
        rest, letter = divmod(rest - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def known_label(index: int | None) -> str | None:
    """`speaker_label`, or None where it is not known yet."""
    return None if index is None else speaker_label(index)


class TurnIndex:
    """Exclusive turns, in order, that can be asked who holds a stretch."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = tuple(turns)
        self._ends_s = [turn.end_s for turn in self._turns]

    def speaker_of(self, start_s: float, end_s: float) -> int | None:
        """Who holds most of `[start_s, end_s)`, or is nearest to it; None where there are no turns."""
        if not self._turns:
            return None
        held: dict[int, float] = {}
        first = bisect_left(self._ends_s, start_s)
        for turn in self._turns[first:]:
            if turn.start_s >= end_s:
                break
            shared_s = min(end_s, turn.end_s) - max(start_s, turn.start_s)
            held[turn.speaker] = held.get(turn.speaker, 0.0) + shared_s
        held = {speaker: seconds for speaker, seconds in held.items() if seconds > 0}
        if held:
            return max(held, key=lambda speaker: held[speaker])
        near = self._turns[max(0, first - 1) : first + 1]
        return min(near, key=lambda turn: max(turn.start_s - end_s, start_s - turn.end_s)).speaker


def label_words(words: Sequence[Word], turns: TurnIndex) -> tuple[Word, ...]:
    """The words, each with its speaker."""
    return tuple(replace(word, speaker=turns.speaker_of(word.start_s, word.end_s)) for word in words)


def runs(words: Sequence[Word]) -> list[tuple[Word, ...]]:
    """The words cut where another speaker begins."""
    return [tuple(run) for _, run in groupby(words, lambda word: word.speaker)]
