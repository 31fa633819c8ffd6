"""Which turns of a recording are one speaker's: groups of turns merged while their voices may be the same.

An embedding of little speech is a poor measure, of much speech a good one. Two groups are merged while the
cosine distance of their means is within what one voice shows after as much speech as each of them has; the
pair furthest within that goes first. A fixed distance, as in average linkage, has to be wide enough for the
shortest turns, and takes alike voices for one however long they speak.

What one voice shows depends on the recording. So groups are made under a wide allowance, which noisy speech
needs, and then looked at closely: where under a narrow one a group falls into exactly two, each of several
turns, two voices that are alike were taken for one. Noisy speech falls into more, or into single turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.speakers.turns import SpeakerCounts

Floats = npt.NDArray[np.float32]
Groups = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Allowance:
    """How far apart two means of one voice may be: `distance` however long it speaks, and more by
    `per_second` over each group's seconds."""

    distance: float
    per_second: float


WIDE = Allowance(0.35, 0.25)
NARROW = Allowance(0.125, 0.225)
"""Tuned on dialogues of other voices (docs/speakers.md)."""
LEAST_TURN_S = 0.5
"""Shorter turns say too little of a voice; they go to the nearest speaker."""
LEAST_SPEAKER_S = 1.0
"""Who speaks less in all is no speaker of his own, unless as many are asked for."""
LEAST_ALIKE_S = 3.0
LEAST_ALIKE_TURNS = 2
"""Of each of two voices that are alike: a single strange turn may be several people's."""
MAX_GROUPED_TURNS = 1500
"""The longest ones: time and memory grow with the square."""


@dataclass(slots=True)
class _Merging:
    """Groups of turns: sums of their embeddings weighted by seconds, and these seconds (0: merged away)."""

    allowance: Allowance
    sums: Floats
    seconds: Floats
    group: Groups
    excess: Floats
    """Of each pair of groups: how much further apart than one voice may be."""

    def refresh(self, rows: Groups) -> None:
        gone = self.seconds == 0
        means = _unit(self.sums)
        share = 1 / np.maximum(self.seconds, 1e-3)
        allowed = self.allowance.distance + self.allowance.per_second * (share[rows, None] + share[None])
        excess = 1 - means[rows] @ means.T - allowed
        excess[gone[rows]] = np.inf
        excess[:, gone] = np.inf
        excess[np.arange(len(rows)), rows] = np.inf
        self.excess[rows] = excess
        self.excess[:, rows] = excess.T

    def merge(self, one: int, other: int) -> None:
        self.sums[one] += self.sums[other]
        self.seconds[one] += self.seconds[other]
        self.seconds[other] = 0
        self.group[self.group == other] = one
        self.refresh(np.array([one, other]))


def group_turns(embeddings: Floats, seconds: Floats, counts: SpeakerCounts) -> Groups:
    """Each turn's speaker, numbered from 0 without gaps: int64 `(num_turns,)`.

    `embeddings` float32 `(num_turns, num_dimensions)` of length 1 (zeros: nothing is known of it, and its
    speaker means nothing), `seconds` float32 `(num_turns,)`. Fewer speakers than asked for come back where
    there are not as many turns.
    """
    known = np.linalg.norm(embeddings, axis=1) > 0
    if not known.any():
        return np.zeros(len(embeddings), np.int64)
    chosen = _evidence(known, seconds, counts)
    means = _speakers(embeddings[chosen], seconds[chosen], counts)
    found: Groups
    _, found = np.unique(np.argmax(embeddings @ means.T, axis=1), return_inverse=True)
    return found


def _evidence(known: npt.NDArray[np.bool_], seconds: Floats, counts: SpeakerCounts) -> Groups:
    """The turns that speakers are found by."""
    usable = np.flatnonzero(known & (seconds >= LEAST_TURN_S))
    if len(usable) < counts.at_least:
        usable = np.flatnonzero(known)
    longest = np.argsort(-seconds[usable], kind="stable")[:MAX_GROUPED_TURNS]
    return np.sort(usable[longest])


def _speakers(embeddings: Floats, seconds: Floats, counts: SpeakerCounts) -> Floats:
    """The mean of each speaker's turns, `(num_speakers, num_dimensions)`, of length 1."""
    least, most = counts.at_least, counts.at_most or len(seconds)
    merging = _merged(embeddings, seconds, WIDE, least, most)
    longest = np.argsort(-merging.seconds, kind="stable").tolist()
    groups = [
        group
        for rank, group in enumerate(longest)
        if merging.seconds[group] > 0 and (rank < least or merging.seconds[group] >= LEAST_SPEAKER_S)
    ][:most]
    sums: list[Floats] = []
    for number, group in enumerate(groups):
        turns = np.flatnonzero(merging.group == group)
        still_free = most - len(sums) - (len(groups) - number)
        alike = _alike_voices(embeddings[turns], seconds[turns]) if still_free > 0 else None
        sums += [merging.sums[group]] if alike is None else alike
    return _unit(np.stack(sums))


def _alike_voices(embeddings: Floats, seconds: Floats) -> list[Floats] | None:
    """The two voices that one group's turns fall into, as sums of their embeddings; None for one voice."""
    merging = _merged(embeddings, seconds, NARROW, 1, len(seconds))
    groups = np.flatnonzero(merging.seconds >= LEAST_SPEAKER_S).tolist()
    if len(groups) != 2 or min(merging.seconds[groups]) < LEAST_ALIKE_S:
        return None
    if min(np.count_nonzero(merging.group == group) for group in groups) < LEAST_ALIKE_TURNS:
        return None
    return [merging.sums[group] for group in groups]


def _merged(embeddings: Floats, seconds: Floats, allowance: Allowance, least: int, most: int) -> _Merging:
    """Groups of turns after all merging that the allowance and the number of speakers ask for."""
    size = len(seconds)
    merging = _Merging(
        allowance,
        (embeddings * seconds[:, None]).astype(np.float32),
        seconds.astype(np.float32),
        np.arange(size),
        np.full((size, size), np.inf, np.float32),
    )
    merging.refresh(np.arange(size))
    while True:
        one, other = divmod(int(np.argmin(merging.excess)), size)
        excess = float(merging.excess[one, other])
        num_speakers = int(np.count_nonzero(merging.seconds >= LEAST_SPEAKER_S))
        too_few = np.count_nonzero(merging.seconds) <= least
        if too_few or not np.isfinite(excess) or (excess > 0 and num_speakers <= most):
            return merging
        if num_speakers <= least and min(merging.seconds[[one, other]]) >= LEAST_SPEAKER_S:
            merging.excess[one, other] = merging.excess[other, one] = np.inf
        else:
            merging.merge(one, other)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-9))
    return unit
