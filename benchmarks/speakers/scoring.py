"""How well speakers were told apart: diarization error rate, number of speakers, speakers of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.clips import Clip
from benchmarks.scoring import Summed
from serve_app.speakers.turns import Turn

COLLARS_S = (0.0, 0.25)
_UNWRITTEN_WORD_S = 0.35
"""Seconds of a turn to one word, where the words are not known."""


@dataclass(frozen=True, slots=True)
class DiarizationErrors(Summed):
    """Seconds of speech (of two speakers at once: twice) and of each kind of error; they add up."""

    speech_s: float
    missed_s: float
    false_alarm_s: float
    confused_s: float

    @property
    def rate(self) -> float:
        """Errors over speech, a fraction; may exceed 1."""
        errors_s = self.missed_s + self.false_alarm_s + self.confused_s
        return errors_s / self.speech_s if self.speech_s else float(errors_s > 0)


def diarization_errors(recording: Clip, turns: Sequence[Turn], collar_s: float = 0.0) -> DiarizationErrors:
    """By pyannote.metrics, overlapping speech included, under the best mapping of speakers.

    `collar_s` seconds around every reference boundary are not scored: as in pyannote.metrics that is the
    whole stretch, half of it on either side.
    """
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    reference, hypothesis = Annotation(), Annotation()
    for index, turn in enumerate(recording.turns):
        reference[Segment(turn.start_s, turn.end_s), index] = turn.speaker
    for index, found in enumerate(turns):
        hypothesis[Segment(found.start_s, found.end_s), index] = f"found {found.speaker}"
    metric = DiarizationErrorRate(collar=collar_s, skip_overlap=False)
    whole = Timeline([Segment(0.0, recording.duration_s)])
    parts: dict[str, Any] = metric(reference.support(), hypothesis.support(), uem=whole, detailed=True)
    return DiarizationErrors(
        parts["total"], parts["missed detection"], parts["false alarm"], parts["confusion"]
    )


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word of the reference: when, and whose."""

    start_s: float
    end_s: float
    speaker: str


@dataclass(frozen=True, slots=True)
class WordSpeakerErrors(Summed):
    """Words whose speaker is wrong, those without a speaker among them."""

    num_words: int
    num_wrong: int

    @property
    def rate(self) -> float:
        return self.num_wrong / self.num_words if self.num_words else 0.0


def reference_words(recording: Clip) -> list[TimedWord]:
    """The words of each turn, spread over it by their lengths; words of one length where there is no text."""
    words: list[TimedWord] = []
    for turn in recording.turns:
        lengths = [len(word) + 1 for word in turn.text.split()]
        if not lengths:
            lengths = [1] * max(1, round((turn.end_s - turn.start_s) / _UNWRITTEN_WORD_S))
        edges = turn.start_s + np.cumsum([0, *lengths]) / sum(lengths) * (turn.end_s - turn.start_s)
        for start_s, end_s in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            words.append(TimedWord(start_s, end_s, turn.speaker))
    return words


def word_speaker_errors(words: Sequence[TimedWord], speakers: Sequence[int | None]) -> WordSpeakerErrors:
    """`speakers` names each word's; scored under the mapping of speakers with the fewest errors."""
    from scipy.optimize import linear_sum_assignment

    true = sorted({word.speaker for word in words})
    found = sorted({speaker for speaker in speakers if speaker is not None})
    agreed = np.zeros((len(true), len(found)), np.int64)
    for word, speaker in zip(words, speakers, strict=True):
        if speaker is not None:
            agreed[true.index(word.speaker), found.index(speaker)] += 1
    rows, columns = linear_sum_assignment(agreed, maximize=True)
    return WordSpeakerErrors(len(words), len(words) - int(agreed[rows, columns].sum()))
