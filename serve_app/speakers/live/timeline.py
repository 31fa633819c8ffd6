"""Whose voice is heard when, on a grid of 20 ms: voted by windows, kept for a while when settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.speakers.live.labeller_state import UNNAMED
from serve_app.speakers.ports import WindowVoices, runs_of
from serve_app.speakers.turns import Turn

GRID_S = 0.02
MAX_AT_ONCE = 2
_EDGE_S = 0.3
"""What a window says of its first and last moments counts less: its model hears only one side of them."""
_NEAR_S = 3.0
"""A word in a pause is said to be of the speaker this close to it."""

Activity = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int16]


def on_grid(voices: WindowVoices) -> Activity:
    """The activity of `voices` on the grid, from their window's start: `(num_grid_frames, num_voices)`."""
    num_frames = len(voices.activity)
    middles_s = (np.arange(round(num_frames * voices.frame_s / GRID_S)) + 0.5) * GRID_S
    frames = np.minimum((middles_s / voices.frame_s).astype(np.int64), num_frames - 1)
    return (voices.activity[frames] > 0).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one window says: `activity` from grid frame `first` on, and the label of each of its voices."""

    first: int
    activity: Activity
    labels: Sequence[int]


class Timeline:
    """Of each grid frame, the speakers heard in it, the loudest vote first; `UNNAMED` fills up."""

    def __init__(self, start: int = 0) -> None:
        self._first = self.settled = self.covered = start
        self._speakers: Labels = np.full((0, MAX_AT_ONCE), UNNAMED, np.int16)

    def draw(self, ballots: Sequence[Ballot], covered: int) -> None:
        """Vote anew on everything that is not settled, up to `covered`."""
        self.covered = max(self.covered, covered)
        drawn = _vote(ballots, self.settled, self.covered)
        self._speakers = np.concatenate([self._speakers[: self.settled - self._first], drawn])

    def settle(self, frame: int, keep: int) -> Labels:
        """Nothing before `frame` changes any more; what is `keep` frames behind it is forgotten. Returns the
        labels that have been settled now."""
        frame = min(max(frame, self.settled), self.covered)
        done = self._speakers[self.settled - self._first : frame - self._first]
        self.settled = frame
        forgotten = max(0, frame - keep - self._first)
        labels = np.unique(done[done != UNNAMED])
        self._speakers = self._speakers[forgotten:].copy()
        self._first += forgotten
        return labels

    @property
    def labels(self) -> Labels:
        """Those in what is kept."""
        return np.unique(self._speakers[self._speakers != UNNAMED])

    def holder(self, start_s: float, end_s: float) -> int | None:
        """Who holds most of a stretch, or is heard next to it; None for silence, or not yet known."""
        start, end = round(start_s / GRID_S) - self._first, round(end_s / GRID_S) - self._first
        end = max(end, start + 1)
        if start < 0 or end > len(self._speakers):
            return None
        near = round(_NEAR_S / GRID_S)
        counts = np.bincount(self._speakers[start:end][self._speakers[start:end] != UNNAMED])
        if len(counts):
            return int(counts.argmax())
        first = max(0, start - near)
        around = self._speakers[first : end + near, 0]
        frames = np.flatnonzero(around != UNNAMED) + first
        if not len(frames):
            return None
        away = np.maximum(start - frames, frames - end + 1)
        return int(self._speakers[frames[away.argmin()], 0])

    def turns(self, from_s: float) -> tuple[Turn, ...]:
        """What is kept from `from_s` on, by start; turns overlap where two speak at once."""
        first = min(max(round(from_s / GRID_S) - self._first, 0), len(self._speakers))
        return turns_on_grid(self._speakers[first:], self._first + first)


def turns_on_grid(speakers: Labels, first: int) -> tuple[Turn, ...]:
    found = []
    for label in np.unique(speakers[speakers != UNNAMED]).tolist():
        for run in runs_of((speakers == label).any(1)):
            start_s, end_s = (round((first + frame) * GRID_S, 2) for frame in run)
            found.append(Turn(start_s, end_s, label))
    return tuple(sorted(found, key=lambda turn: (turn.start_s, turn.speaker)))


def _vote(ballots: Sequence[Ballot], start: int, end: int) -> Labels:
    """As many speakers as the windows hear on average, those with the most votes."""
    num_labels = max([1, *(label + 1 for ballot in ballots for label in ballot.labels)])
    votes = np.zeros((end - start, num_labels), np.float32)
    heard = np.zeros(end - start, np.float32)
    asked = np.zeros(end - start, np.float32)
    for ballot in ballots:
        skipped = max(0, start - ballot.first)
        activity = ballot.activity[skipped:]
        place = slice(ballot.first + skipped - start, ballot.first + skipped - start + len(activity))
        weight = _weights(len(ballot.activity))[skipped:]
        asked[place] += weight
        heard[place] += weight * np.minimum(activity.sum(1), MAX_AT_ONCE)
        for label in set(ballot.labels) - {UNNAMED}:
            mine = [voice for voice, of in enumerate(ballot.labels) if of == label]
            votes[place, label] += weight * activity[:, mine].any(1)
    num_heard = np.floor(heard / np.maximum(asked, 1e-6) + 0.5)
    order = np.argsort(-votes, axis=1, kind="stable")[:, :MAX_AT_ONCE]
    speakers = np.full((end - start, MAX_AT_ONCE), UNNAMED, np.int16)
    for rank in range(order.shape[1]):
        chosen = order[:, rank]
        valid = (num_heard > rank) & (votes[np.arange(len(votes)), chosen] > 0)
        speakers[valid, rank] = chosen[valid]
    return speakers


def _weights(num_frames: int) -> npt.NDArray[np.float32]:
    middles_s = (np.arange(num_frames) + 0.5) * GRID_S
    from_edge_s = np.minimum(middles_s, num_frames * GRID_S - middles_s)
    weights: npt.NDArray[np.float32] = np.clip(from_edge_s / _EDGE_S, 0.05, 1.0).astype(np.float32)
    return weights
