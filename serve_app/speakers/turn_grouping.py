"""Which turns of a recording are one speaker's: groups of turns merged while their voices may be the same.

An embedding of little speech is a poor measure, of much speech a good one. Two groups are merged while the
cosine distance of their means is within what one voice shows after as much speech as each of them has; the
pair furthest within that goes first. A fixed distance, as in average linkage, has to be wide enough for the
shortest turns, and takes alike voices for one however long they speak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.speakers.turns import SpeakerCounts

Floats = npt.NDArray[np.float32]
Groups = npt.NDArray[np.int64]

SAME_VOICE_DISTANCE = 0.2
"""Between two means of one voice, however long it speaks: it changes with mood and place."""
SAME_VOICE_SECONDS = 0.15
"""More by this over each group's seconds. Tuned on dialogues of other voices (docs/speakers.md)."""
LEAST_TURN_S = 0.5
"""Shorter turns say too little of a voice; they go to the nearest speaker."""
LEAST_SPEAKER_S = 1.0
"""Who speaks less in all is no speaker of his own, unless as many are asked for."""
MAX_GROUPED_TURNS = 1500
"""The longest ones: time and memory grow with the square."""


@dataclass(slots=True)
class _Merging:
    """Groups of turns: sums of their embeddings weighted by seconds, and these seconds; dead ones weigh 0."""

    sums: Floats
    seconds: Floats
    members: list[list[int]]
    excess: Floats
    """Of each pair: how much further apart than one voice may be."""

    def refresh(self, rows: npt.NDArray[np.int64]) -> None:
        alive = self.seconds > 0
        means = self.sums / np.maximum(np.linalg.norm(self.sums, axis=1, keepdims=True), 1e-9)
        distance = 1 - means[rows] @ means.T
        share = 1 / np.maximum(self.seconds, 1e-3)
        excess = distance - SAME_VOICE_DISTANCE - SAME_VOICE_SECONDS * (share[rows, None] + share[None])
        excess[~alive[rows]] = np.inf
        excess[:, ~alive] = np.inf
        excess[np.arange(len(rows)), rows] = np.inf
        self.excess[rows] = excess
        self.excess[:, rows] = excess.T


def group_turns(embeddings: Floats, seconds: Floats, counts: SpeakerCounts) -> Groups:
    """Each turn's speaker, numbered from 0 without gaps: int64 `(num_turns,)`.

    `embeddings` float32 `(num_turns, num_dimensions)` of length 1 (zeros: nothing is known, the turn goes
    to the speaker with the most speech), `seconds` float32 `(num_turns,)`. Fewer speakers than asked for
    come back where there are not as many turns.
    """
    known = np.linalg.norm(embeddings, axis=1) > 0
    if not known.any():
        return np.zeros(len(embeddings), np.int64)
    chosen = _evidence(known, seconds, counts)
    merging = _merge(embeddings[chosen], seconds[chosen], counts)
    order = np.argsort(-merging.seconds, kind="stable")
    wanted = counts.exact or counts.least or 1
    speakers = [
        group
        for rank, group in enumerate(order.tolist())
        if merging.seconds[group] > 0 and (rank < wanted or merging.seconds[group] >= LEAST_SPEAKER_S)
    ]
    speakers = speakers[: counts.exact or counts.most]
    means = merging.sums[speakers] / np.linalg.norm(merging.sums[speakers], axis=1, keepdims=True)
    nearest = np.argmax(embeddings @ means.T, axis=1)
    found: Groups
    _, found = np.unique(nearest, return_inverse=True)
    return found


def _evidence(known: npt.NDArray[np.bool_], seconds: Floats, counts: SpeakerCounts) -> npt.NDArray[np.int64]:
    """The turns that speakers are found by."""
    long_enough = np.flatnonzero(known & (seconds >= LEAST_TURN_S))
    if len(long_enough) < (counts.exact or counts.least or 1):
        long_enough = np.flatnonzero(known)
    longest = np.argsort(-seconds[long_enough], kind="stable")[:MAX_GROUPED_TURNS]
    return np.sort(long_enough[longest])


def _merge(embeddings: Floats, seconds: Floats, counts: SpeakerCounts) -> _Merging:
    least = counts.exact or counts.least or 1
    most = counts.exact or counts.most or len(seconds)
    size = len(seconds)
    merging = _Merging(
        (embeddings * seconds[:, None]).astype(np.float32),
        seconds.astype(np.float32),
        [[turn] for turn in range(size)],
        np.full((size, size), np.inf, np.float32),
    )
    merging.refresh(np.arange(size))
    for _ in range(size - 1):
        one, other = divmod(int(np.argmin(merging.excess)), size)
        excess = merging.excess[one, other]
        num_speakers = int(np.count_nonzero(merging.seconds >= LEAST_SPEAKER_S))
        num_groups = int(np.count_nonzero(merging.seconds))
        if not np.isfinite(excess) or num_groups <= least or (excess > 0 and num_speakers <= most):
            break
        if num_speakers <= least and min(merging.seconds[[one, other]]) >= LEAST_SPEAKER_S:
            merging.excess[one, other] = merging.excess[other, one] = np.inf
            continue
        merging.sums[one] += merging.sums[other]
        merging.seconds[one] += merging.seconds[other]
        merging.seconds[other] = 0
        merging.refresh(np.array([one, other]))
    return merging
