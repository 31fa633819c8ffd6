"""Which voice of a window is which speaker of the session: sans IO, in numpy, one object per session.

Every `take` clusters the voices of the last minute or two anew, together with one row for each speaker known
from before, and gives each cluster the label that most of its members had: so later audio corrects earlier
labels, and no two speakers ever swap theirs. Behind the horizon labels are settled; what was heard there
lives on in the speakers' rows alone, which are small enough for a resume ticket.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from serve_app.speakers.live.clustering import Clusters, Floats, Ints, average_linkage
from serve_app.speakers.live.labeller_state import (
    MAX_LIVE_SPEAKERS,
    MAX_UNTIL_S,
    MAX_WEIGHT_S,
    UNNAMED,
    LabellerState,
    SpeakerRow,
    largest_of_each,
    name_clusters,
)
from serve_app.speakers.live.timeline import GRID_S, Activity, Ballot, Timeline, on_grid
from serve_app.speakers.ports import WINDOW_S, WindowVoices
from serve_app.speakers.turns import Turn

_MAX_WINDOWS = 128
_MAX_VOICES = 200
_MAX_VOICE_WEIGHT_S = 4.0
_MAX_ROW_WEIGHT_S = 60.0
"""In clustering: a row of an hour must not outvote everything that is heard now."""
_KNOWN_S = 1_000.0
"""What a row adds to a cluster's claim on its label: more than any voice."""
_NEARNESS_STEP = 0.05
_MAX_LEAST_NEARNESS = 0.5


@dataclass(frozen=True, slots=True)
class LabellerOptions:
    """`least` and `most`: how many speakers there may be. Raises `ValueError` where they disagree.

    Voices at least `least_nearness` near on average (the cosine of stretches of a second or two) are of one
    speaker; a new one needs `new_speaker_s` seconds spoken alone, and a voice of less than `min_clean_s`
    goes to the nearest. Labels change for `horizon_s` at most, and are kept for `kept_s` behind that.
    """

    most: int = 8
    least: int = 1
    least_nearness: float = 0.35
    new_speaker_s: float = 1.0
    min_clean_s: float = 0.5
    horizon_s: float = 90.0
    kept_s: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= MAX_LIVE_SPEAKERS:
            raise ValueError(
                f"a live session has 1 to {MAX_LIVE_SPEAKERS} speakers, the least before the most"
            )
        if not (WINDOW_S <= self.horizon_s <= 600 and 0 <= self.kept_s <= 600):
            raise ValueError(f"labels settle after {WINDOW_S:.0f} to 600 s, and are kept for at most 600 s")


@dataclass(slots=True)
class _Voice:
    """A voice of one window, and whose it is said to be."""

    embedding: Floats
    clean_s: float
    label: int = UNNAMED


@dataclass(slots=True)
class _Window:
    first: int
    activity: Activity
    voices: list[_Voice] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.activity)

    @property
    def ballot(self) -> Ballot:
        return Ballot(self.first, self.activity, [voice.label for voice in self.voices])


class OnlineLabeller:
    """Takes windows in order, at any steps, and answers who spoke when. Bounded in memory and time."""

    def __init__(self, options: LabellerOptions | None = None, state: LabellerState | None = None) -> None:
        """`state`: go on from there, with the same labels for the same voices."""
        self.options = options or LabellerOptions()
        state = state or LabellerState()
        self._rows = {row.label: (row.mean, row.weight_s) for row in state.rows}
        self._final_labels = set(self._rows)
        self._windows: deque[_Window] = deque()
        self._timeline = Timeline(round(state.until_s / GRID_S))

    # -- windows ---------------------------------------------------------------------------------

    def take(self, start_s: float, voices: WindowVoices) -> None:
        """The voices of the window that starts at `start_s`, seconds from the session's first sample.

        Raises `ValueError` for arrays that do not fit each other or those before, and for a window longer
        than `WINDOW_S` or before the session.
        """
        self._check(start_s, voices)
        window = _Window(round(start_s / GRID_S), on_grid(voices))
        for embedding, clean_s in zip(voices.embeddings, voices.clean_s.tolist(), strict=True):
            if not np.isfinite(embedding).all() or not embedding.any():
                embedding, clean_s = np.zeros_like(embedding), 0.0
            window.voices.append(_Voice(embedding, clean_s))
        horizon = round(self.options.horizon_s / GRID_S)
        if window.end - horizon > self._timeline.covered:
            self._begin_anew(window.end - horizon)
        if window.end <= self._timeline.settled:
            return
        self._windows.append(window)
        self._name()
        self._draw()
        self._settle(self._timeline.covered - horizon)

    def _check(self, start_s: float, voices: WindowVoices) -> None:
        num_voices = voices.activity.shape[1] if voices.activity.ndim == 2 else -1
        seen = itertools.chain(
            (mean for mean, _ in self._rows.values()),
            (voice.embedding for window in self._windows for voice in window.voices),
            [voices.embeddings[0] if len(voices.embeddings) else np.zeros(voices.embeddings.shape[1:])],
        )
        if voices.embeddings.shape != (num_voices, *next(seen).shape) or voices.clean_s.shape != (
            num_voices,
        ):
            raise ValueError("the voices' activity, embeddings and seconds are not of the same voices")
        longest = (WINDOW_S + 1) / max(voices.frame_s, 1e-6)
        if not (0 <= start_s <= MAX_UNTIL_S and voices.frame_s > 0 and len(voices.activity) <= longest):
            raise ValueError(f"a window of at most {WINDOW_S:.0f} s, within the session, was expected")

    def _begin_anew(self, frame: int) -> None:
        """After a gap as long as the horizon: everything before it is settled."""
        while self._windows:
            self._melt(self._windows.popleft())
        self._final_labels |= set(self._timeline.labels.tolist())
        self._timeline = Timeline(frame)

    def _draw(self) -> None:
        ballots = [window.ballot for window in self._windows]
        self._timeline.draw(ballots, max(window.end for window in self._windows))

    # -- who is who ------------------------------------------------------------------------------

    def _name(self) -> None:
        """Cluster the voices anew and label them."""
        voices = [voice for window in self._windows for voice in window.voices]
        clear = [voice for voice in voices if voice.clean_s >= self.options.min_clean_s]
        known = list(self._rows)
        if not clear and not known:
            return
        rows = list(self._rows.values())
        means = np.stack([*(mean for mean, _ in rows), *(voice.embedding for voice in clear)])
        row_weights = [min(weight_s, _MAX_ROW_WEIGHT_S) for _, weight_s in rows]
        voice_weights = [min(voice.clean_s, _MAX_VOICE_WEIGHT_S) for voice in clear]
        weights = np.array(row_weights + voice_weights, np.float32)
        evidence_s = np.array([_KNOWN_S] * len(rows) + [voice.clean_s for voice in clear], np.float32)
        claims = weights + np.where(np.arange(len(weights)) < len(rows), np.float32(_KNOWN_S), np.float32(0))
        had = np.array(known + [voice.label for voice in clear])
        clusters = self._cluster(means, weights, evidence_s)
        free = [label for label in range(self.options.most) if label not in self._final_labels]
        labels = name_clusters(clusters, had, claims, evidence_s, free, self.options.new_speaker_s)
        for voice, cluster in zip(clear, clusters.members[len(known) :], strict=True):
            voice.label = int(labels[cluster])
        self._place_unclear(clusters.means, labels)

    def _cluster(self, means: Floats, weights: Floats, evidence_s: Floats) -> Clusters:
        """Where fewer speakers come out than there are, with more and more distinction, within reason."""
        nearness = self.options.least_nearness
        clusters = average_linkage(means, weights, nearness)
        while nearness < _MAX_LEAST_NEARNESS:
            evidence = largest_of_each(clusters.members, evidence_s)
            if np.count_nonzero(evidence >= self.options.new_speaker_s) >= self.options.least:
                break
            nearness += _NEARNESS_STEP
            clusters = average_linkage(means, weights, nearness)
        return clusters

    def _place_unclear(self, means: Floats, labels: Ints) -> None:
        """A voice of which there is little goes to the nearest speaker whom the window has not got yet."""
        for window in self._windows:
            least_s = self.options.min_clean_s
            there = {voice.label for voice in window.voices if voice.clean_s >= least_s}
            for voice in window.voices:
                if voice.clean_s >= least_s:
                    continue
                voice.label = UNNAMED
                if voice.embedding.any():
                    nearness = means @ voice.embedding
                    nearness[np.isin(labels, list(there))] -= 2.0
                    voice.label = int(labels[int(nearness.argmax())])
                    there.add(voice.label)

    # -- the horizon -----------------------------------------------------------------------------

    def _settle(self, limit: int) -> None:
        while len(self._windows) > 1 and (self._windows[0].end <= limit or self._is_full):
            self._melt(self._windows.popleft())
            if self._windows[0].end > limit:
                limit = max(limit, self._windows[0].first)
        kept = round(self.options.kept_s / GRID_S)
        self._final_labels |= set(self._timeline.settle(limit, kept).tolist())

    @property
    def _is_full(self) -> bool:
        num_voices = sum(len(window.voices) for window in self._windows)
        return len(self._windows) > _MAX_WINDOWS or num_voices > _MAX_VOICES

    def _melt(self, window: _Window) -> None:
        self._rows = _melted(self._rows, [window], self.options.min_clean_s)

    # -- what is known ---------------------------------------------------------------------------

    @property
    def covered_until_s(self) -> float:
        return self._timeline.covered * GRID_S

    @property
    def settled_until_s(self) -> float:
        """Labels before it never change again."""
        return self._timeline.settled * GRID_S

    @property
    def num_speakers(self) -> int:
        """Those that anything carries that is kept, and those of before."""
        return len(self._final_labels | set(self._timeline.labels.tolist()))

    def speaker_of(self, start_s: float, end_s: float) -> int | None:
        """Who speaks for most of a stretch, or next to it in silence; None where that is not known yet, and
        where it is too long ago."""
        return self._timeline.holder(start_s, end_s)

    def turns(self, from_s: float = 0.0) -> tuple[Turn, ...]:
        """What is kept, from `from_s` on, by start."""
        return self._timeline.turns(from_s)

    @property
    def state(self) -> LabellerState:
        """All that another labeller needs to go on after `covered_until_s` with these speakers."""
        rows = _melted(self._rows, self._windows, self.options.min_clean_s)
        known = (SpeakerRow.of(label, weight_s, mean) for label, (mean, weight_s) in sorted(rows.items()))
        return LabellerState(self.covered_until_s, tuple(known))


def _melted(
    rows: dict[int, tuple[Floats, float]], windows: Iterable[_Window], min_clean_s: float
) -> dict[int, tuple[Floats, float]]:
    """`rows` with the voices of `windows` in them."""
    rows = dict(rows)
    for window in windows:
        for voice in window.voices:
            if voice.label == UNNAMED or voice.clean_s < min_clean_s:
                continue
            weight_s = min(voice.clean_s, _MAX_VOICE_WEIGHT_S)
            mean, before_s = rows.get(voice.label, (voice.embedding, 0.0))
            share = np.float32(weight_s / (before_s + weight_s))
            mean = mean + (voice.embedding - mean) * share
            rows[voice.label] = (mean, min(before_s + weight_s, MAX_WEIGHT_S))
    return rows
