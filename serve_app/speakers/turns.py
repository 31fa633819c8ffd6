"""Who spoke when in a recording: turns, and how many speakers to expect. Speakers are numbered from 0."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

MAX_SPEAKERS = 100
SpeakerBackend: TypeAlias = Literal["pyannote", "sortformer", "channel"]
"""What tells speakers apart on a server."""


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

    exact: int | None = None
    least: int | None = None
    most: int | None = None

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
