"""Two speakers whose voices are so alike that clustering takes them for one: told apart by whole turns.

The clustered voices of windows are made of a second or two each, and so little speech of one voice may differ
from itself as much as alike voices differ. Whole turns say more. So the turns of the last minute or two are
kept, each once, and where those of one speaker fall into exactly two voices, the second gets a label of its
own. What one voice shows after so many seconds is that of `turn_grouping`, which does the same for recordings.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from serve_app.speakers.clustering import Floats, Ints
from serve_app.speakers.labeller_state import MAX_ALIKE_PAIRS, MAX_WEIGHT_S, AlikePair, SpeakerRow
from serve_app.speakers.naming import NOBODY
from serve_app.speakers.timeline import GRID_S, Timeline
from serve_app.speakers.turn_grouping import (
    LEAST_ALIKE_S,
    LEAST_ALIKE_TURNS,
    LEAST_SPEAKER_S,
    LEAST_TURN_S,
    Allowance,
)
from serve_app.speakers.windows import WindowVoices

NARROW = Allowance(0.125, 0.25)
"""How far apart two groups of turns of one voice are at most (docs/speakers.md)."""
MAX_TURNS = 80
_SAME_TURN = 0.3
"""Two windows heard the same turn where the views share this much of the shorter one."""


@dataclass(slots=True)
class HeardTurn:
    """One voice without a pause, in frames of the timeline; `speaker` is whose it was said to be."""

    first: int
    end: int
    embedding: Floats
    speaker: int = NOBODY

    @property
    def seconds(self) -> float:
        return (self.end - self.first) * GRID_S

    def is_seen_in(self, other: HeardTurn) -> bool:
        shared = min(self.end, other.end) - max(self.first, other.first)
        return shared > _SAME_TURN * min(self.end - self.first, other.end - other.first)


@dataclass(slots=True)
class _Voice:
    """The settled turns of one of two alike voices: the sum of their embeddings by seconds."""

    total: Floats
    seconds: float = 0.0

    def add(self, turn: HeardTurn) -> None:
        self.total = self.total + turn.embedding * np.float32(turn.seconds)
        self.seconds += turn.seconds
        if self.seconds > MAX_WEIGHT_S:
            self.total = self.total * np.float32(MAX_WEIGHT_S / self.seconds)
            self.seconds = MAX_WEIGHT_S


@dataclass(slots=True)
class _Pair:
    """Two labels of one cluster: `known` is the cluster's, `other` that of the second voice in it. `lasting`
    once anything that `other` said is settled: then it is never given up."""

    known: int
    other: int
    lasting: bool = False
    settled: dict[int, _Voice] = field(default_factory=dict)


class AlikeVoices:
    """The turns within a labeller's horizon, and the pairs of alike voices found among them."""

    def __init__(self, pairs: Sequence[AlikePair] = ()) -> None:
        self._turns: list[HeardTurn] = []
        self._pairs: dict[int, _Pair] = {}
        for pair in pairs:
            rows = (pair.known, pair.other)
            settled = {row.label: _Voice(row.mean * np.float32(row.weight_s), row.weight_s) for row in rows}
            self._pairs[pair.known.label] = _Pair(pair.known.label, pair.other.label, True, settled)

    @property
    def labels(self) -> set[int]:
        return {label for pair in self._pairs.values() for label in (pair.known, pair.other)}

    @property
    def num_lasting(self) -> int:
        return sum(pair.lasting for pair in self._pairs.values())

    # -- turns -----------------------------------------------------------------------------------

    def hear(self, first: int, voices: WindowVoices) -> None:
        """The turns of the window that begins at grid frame `first`; of a turn the longest view is kept."""
        rate = voices.frame_s / GRID_S
        for (_, start, end), embedding in zip(voices.runs.tolist(), voices.run_embeddings, strict=True):
            turn = HeardTurn(first + round(start * rate), first + round(end * rate), embedding)
            if turn.seconds < LEAST_TURN_S or not np.isfinite(embedding).all() or not embedding.any():
                continue
            same = [other for other in self._turns if turn.is_seen_in(other)]
            if any(other.end - other.first >= turn.end - turn.first for other in same):
                continue
            turn.speaker = same[0].speaker if same else NOBODY
            self._turns = [other for other in self._turns if other not in same] + [turn]
        self._turns.sort(key=lambda turn: (turn.first, turn.end))
        self._forget(self._turns[: max(0, len(self._turns) - MAX_TURNS)])

    def settle(self, frame: int, final_labels: Collection[int]) -> None:
        """Nothing before `frame` changes any more."""
        for pair in self._pairs.values():
            pair.lasting = pair.lasting or pair.other in final_labels
        self._forget([turn for turn in self._turns if turn.end <= frame])

    def _forget(self, turns: Sequence[HeardTurn]) -> None:
        """What pairs know of their voices outlives the turns."""
        for turn in turns:
            for pair in self._pairs.values():
                if pair.lasting and turn.speaker in (pair.known, pair.other):
                    voice = pair.settled.setdefault(turn.speaker, _Voice(np.zeros_like(turn.embedding)))
                    voice.add(turn)
        gone = {id(turn) for turn in turns}
        self._turns = [turn for turn in self._turns if id(turn) not in gone]

    # -- pairs -----------------------------------------------------------------------------------

    def tell_apart(self, timeline: Timeline, free: Sequence[int]) -> None:
        """Give a second voice in a cluster a label of its own, one of `free`: those that no cluster has and
        that nothing settled carries. `timeline` has just been drawn with the labels of clusters."""
        self._pairs = {known: pair for known, pair in self._pairs.items() if pair.lasting}
        cluster_of = {pair.other: pair.known for pair in self._pairs.values()}
        said_by: dict[int, list[HeardTurn]] = {}
        for turn in self._turns:
            label = timeline.majority(turn.first, turn.end)
            if label != NOBODY:
                said_by.setdefault(cluster_of.get(label, label), []).append(turn)
        for known, turns in sorted(said_by.items()):
            pair = self._pairs.get(known)
            if pair is not None:
                _go_on(pair, [turn for turn in turns if turn.first >= timeline.settled], turns)
            else:
                left = [label for label in free if label not in self.labels | set(said_by)]
                pair = _found(known, turns, left) if len(self._pairs) < MAX_ALIKE_PAIRS else None
            if pair is not None:
                self._pairs[known] = pair
                timeline.pass_on(known, pair.other, [(t.first, t.end, t.speaker) for t in turns])

    def state(self) -> tuple[AlikePair, ...]:
        """The pairs there are, as if all that was heard were settled."""
        pairs = []
        for pair in self._pairs.values():
            rows = []
            for label in (pair.known, pair.other):
                said = pair.settled.get(label)
                voice = _Voice(said.total, said.seconds) if said else None
                for turn in self._turns:
                    if turn.speaker == label:
                        voice = voice or _Voice(np.zeros_like(turn.embedding))
                        voice.add(turn)
                if voice is not None:
                    rows.append(SpeakerRow.of(label, voice.seconds, voice.total / np.float32(voice.seconds)))
            if len(rows) == 2:
                pairs.append(AlikePair(*rows))
        return tuple(pairs)


def _found(known: int, turns: Sequence[HeardTurn], free: Sequence[int]) -> _Pair | None:
    """Tells of `turns`, taken for one voice, whose they are; None where they are of one."""
    before = np.array([turn.speaker for turn in turns])
    seconds = np.array([turn.seconds for turn in turns], np.float32)
    second = two_voices(np.stack([turn.embedding for turn in turns]), seconds) if free else None
    if second is None:
        for turn in turns:
            turn.speaker = known
        return None
    had = np.bincount(before[np.isin(before, free)], seconds[np.isin(before, free)], 1)
    other = int(had.argmax()) if had.any() else free[0]
    as_before = np.where(before == other, 1, np.where(before == known, -1, 0)) * seconds
    kept_s = float(as_before[second].sum() - as_before[~second].sum())
    if kept_s < 0 or (kept_s == 0 and second[0]):
        second = ~second
    for turn, is_other in zip(turns, second.tolist(), strict=True):
        turn.speaker = other if is_other else known
    return _Pair(known, other)


def _go_on(pair: _Pair, turns: Sequence[HeardTurn], all_turns: Sequence[HeardTurn]) -> None:
    """Tells of `turns` which of a pair's voices is nearer."""
    means = []
    for label in (pair.known, pair.other):
        total = sum((turn.embedding * turn.seconds for turn in all_turns if turn.speaker == label), np.zeros(()))
        if label in pair.settled:
            total = total + pair.settled[label].total
        means.append(total / max(float(np.linalg.norm(total)), 1e-9))
    for turn in turns:
        known, other = (float((turn.embedding * mean).sum()) for mean in means)
        turn.speaker = pair.other if other > known else pair.known


def two_voices(embeddings: Floats, seconds: Floats) -> npt.NDArray[np.bool_] | None:
    """Which of one speaker's turns are another voice's, where they fall into exactly two; None elsewhere.

    `embeddings` float32 `(num_turns, num_dimensions)` of length 1, `seconds` `(num_turns,)`.
    """
    if len(seconds) < 2 * LEAST_ALIKE_TURNS or seconds.sum() < 2 * LEAST_ALIKE_S:
        return None
    group = _merged(embeddings, seconds)
    held_s = np.bincount(group, seconds)
    voices = np.flatnonzero(held_s >= LEAST_SPEAKER_S)
    if len(voices) != 2 or held_s[voices].min() < LEAST_ALIKE_S:
        return None
    if np.bincount(group)[voices].min() < LEAST_ALIKE_TURNS:
        return None
    means = [(embeddings[group == voice] * seconds[group == voice, None]).sum(0) for voice in voices]
    one, other = (embeddings @ (mean / np.linalg.norm(mean)) for mean in means)
    return np.asarray(other > one)


def _merged(embeddings: Floats, seconds: Floats) -> Ints:
    """Each turn's group, after merging the pair furthest within what one voice shows for as long as there
    is one."""
    sums = embeddings.astype(np.float64) * seconds[:, None]
    products = sums @ sums.T
    held_s = seconds.astype(np.float64)
    group = np.arange(len(seconds))
    left = np.arange(len(seconds))
    while len(left) > 1:
        lengths = np.sqrt(np.maximum(products.diagonal(), 1e-12))
        share = NARROW.per_second / held_s
        excess = 1 - products / np.outer(lengths, lengths) - NARROW.distance - share[:, None] - share
        np.fill_diagonal(excess, np.inf)
        one, other = divmod(int(excess.argmin()), len(left))
        if excess[one, other] > 0:
            break
        products[one] += products[other]
        products[:, one] += products[:, other]
        held_s[one] += held_s[other]
        group[group == left[other]] = left[one]
        keep = np.arange(len(left)) != other
        products, held_s, left = products[keep][:, keep], held_s[keep], left[keep]
    return group
