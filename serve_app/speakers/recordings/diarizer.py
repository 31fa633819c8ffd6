"""A recording's diarizer made of a model's lists of turns: joined, renumbered, made exclusive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.speakers.turns import Diarization, SpeakerCounts, Turn

LEAST_S = 1e-3
"""Nothing shorter is a turn."""


def turns_of(annotation: Any, numbers: dict[str, int]) -> list[Turn]:
    """Of a pyannote Annotation; `numbers` holds the speakers' numbers and gets those that are new."""
    return [
        Turn(float(segment.start), float(segment.end), numbers.setdefault(str(label), len(numbers)))
        for segment, _, label in annotation.itertracks(yield_label=True)
    ]


def join_turns(turns: Iterable[Turn], pause_s: float) -> list[Turn]:
    """In order of starts; neighbours of one speaker that touch, or are less than `pause_s` apart, are one."""
    joined: list[Turn] = []
    for turn in sorted(turns, key=lambda turn: (turn.start_s, turn.end_s)):
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.speaker == turn.speaker
            and turn.start_s - last.end_s < max(pause_s, LEAST_S)
        ):
            joined[-1] = replace(last, end_s=max(last.end_s, turn.end_s))
        else:
            joined.append(turn)
    return joined


def relabelled(turns: Iterable[Turn], reference: Sequence[Turn], speakers: Sequence[int]) -> list[Turn]:
    """Each turn with the new speaker of the turn in `reference` that had the same old one and shares most
    time with it, or else is nearest. `speakers` are the new ones of `reference`, in its order."""
    by_speaker: dict[int, list[tuple[Turn, int]]] = {}
    for known, speaker in zip(reference, speakers, strict=True):
        by_speaker.setdefault(known.speaker, []).append((known, speaker))
    changed = []
    for turn in turns:
        candidates = by_speaker.get(turn.speaker)
        if candidates:
            _, speaker = max(candidates, key=lambda candidate: _shared_s(turn, candidate[0]))
            changed.append(replace(turn, speaker=speaker))
    return changed


def exclusive_turns(turns: Sequence[Turn]) -> list[Turn]:
    """The same without overlap: where several speak, the one who began first keeps the floor until he
    ends."""
    edges = sorted({edge for turn in turns for edge in (turn.start_s, turn.end_s)})
    ordered = sorted(turns, key=lambda turn: turn.start_s)
    pieces: list[Turn] = []
    active: list[Turn] = []
    following = iter(ordered)
    coming = next(following, None)
    for start_s, end_s in pairwise(edges):
        while coming is not None and coming.start_s <= start_s:
            active.append(coming)
            coming = next(following, None)
        active = [turn for turn in active if turn.end_s > start_s]
        if active:
            pieces.append(Turn(start_s, end_s, active[0].speaker))
    return join_turns(pieces, 0.0)


def to_diarization(turns: Iterable[Turn], exclusive: Iterable[Turn], duration_s: float) -> Diarization:
    """Within the recording, a speaker's overlapping turns joined, speakers numbered as they first speak."""
    whole = _in_bounds(turns, duration_s)
    united = [turn for speaker in {turn.speaker for turn in whole} for turn in _of(whole, speaker)]
    united.sort(key=lambda turn: (turn.start_s, turn.end_s))
    numbers: dict[int, int] = {}
    for turn in united:
        numbers.setdefault(turn.speaker, len(numbers))
    alone = [turn for turn in join_turns(_in_bounds(exclusive, duration_s), 0.0) if turn.speaker in numbers]
    return Diarization(
        tuple(replace(turn, speaker=numbers[turn.speaker]) for turn in united),
        tuple(replace(turn, speaker=numbers[turn.speaker]) for turn in alone),
        len(numbers),
    )


def _of(turns: Sequence[Turn], speaker: int) -> list[Turn]:
    return join_turns((turn for turn in turns if turn.speaker == speaker), 0.0)


def _in_bounds(turns: Iterable[Turn], duration_s: float) -> list[Turn]:
    cut = (replace(turn, start_s=max(0.0, turn.start_s), end_s=min(duration_s, turn.end_s)) for turn in turns)
    return [turn for turn in cut if turn.end_s - turn.start_s >= LEAST_S]


def _shared_s(one: Turn, other: Turn) -> float:
    """Negative: how far apart they are."""
    return min(one.end_s, other.end_s) - max(one.start_s, other.start_s)


class RecordingDiarizer(ABC):
    """A `Diarizer` made of a model's turns. One call at a time."""

    def diarize(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None] = lambda: None,
    ) -> Diarization:
        """Who spoke in int16 `(num_samples,)` audio at 16 kHz. `progress` hears the share done, up to 1;
        `pause` is called between batches, and may wait, or raise to end the work."""
        turns, exclusive = self._turns(audio, counts, progress, pause) if len(audio) else ((), ())
        progress(1.0)
        return to_diarization(turns, exclusive, len(audio) / SAMPLE_RATE_HZ)

    @abstractmethod
    def _turns(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> tuple[list[Turn], list[Turn]]:
        """All turns in at least one sample of audio, then the same without overlap."""
