"""From a window's local voices to voices of one person each.

The segmentation model now and then takes two people for one voice, most of all where their turns do not
overlap. So every local voice is cut at its pauses, and a long run once more; each stretch gets an embedding
of its own; and the stretches of a local voice are put together again where they sound alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.speakers.live.clustering import Floats, Ints, average_linkage
from serve_app.speakers.ports import Run, WindowVoices, frames_away, runs_of

MAX_STRETCH_S = 2.0
MIN_STRETCH_S = 0.25
_MIN_PAUSE_S = 0.05
_MIN_GROUPED_S = 0.5
"""Shorter stretches go where their neighbour in time goes: their embeddings say little."""
_LEAST_NEARNESS = 0.4

Activity = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames in which one local voice speaks alone."""

    voice: int
    start: int
    end: int


def stretches_alone(activity: Activity, frame_s: float) -> list[Stretch]:
    """What to embed of uint8 `(num_frames, num_voices)`: stretches of `MIN_STRETCH_S` to `MAX_STRETCH_S`."""
    alone = (activity > 0) & (activity.sum(1) == 1)[:, None]
    found = []
    for voice in range(activity.shape[1]):
        for start, end in _runs(alone[:, voice], (activity > 0).sum(1) > 0, _MIN_PAUSE_S / frame_s):
            if (end - start) * frame_s < MIN_STRETCH_S:
                continue
            num_parts = int(np.ceil((end - start) * frame_s / MAX_STRETCH_S))
            edges = np.linspace(start, end, num_parts + 1).astype(int).tolist()
            found += [Stretch(voice, *pair) for pair in zip(edges[:-1], edges[1:], strict=True)]
    return found


def _runs(on: npt.NDArray[np.bool_], anybody: npt.NDArray[np.bool_], join: float) -> list[Run]:
    """Runs of True; two with a shorter gap than `join` frames, of silence, are one."""
    runs: list[Run] = []
    for start, end in runs_of(on):
        if runs and start - runs[-1][1] < join and not anybody[runs[-1][1] : start].any():
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


def regroup(
    activity: Activity, frame_s: float, stretches: Sequence[Stretch], embeddings: Floats
) -> WindowVoices:
    """`embeddings` float32 `(num_stretches, num_dimensions)`, of length 1, are of `stretches` of `activity`.

    An embedding of the result is the mean over its stretches, by seconds: the more they differ, the shorter.
    """
    seconds = np.array([stretch.end - stretch.start for stretch in stretches], np.float32) * frame_s
    voices = np.array([stretch.voice for stretch in stretches], np.int64)
    groups = _groups(voices, seconds, stretches, embeddings)
    num_groups = int(groups.max()) + 1 if len(groups) else 0
    columns = np.zeros((len(activity), num_groups), np.uint8)
    silent_columns = []
    frames = np.arange(len(activity))
    for voice in range(activity.shape[1]):
        on = activity[:, voice] > 0
        mine = np.flatnonzero(voices == voice)
        if not on.any():
            continue
        if not len(mine):
            silent_columns.append(activity[:, voice])
            continue
        columns[frames[on], groups[_nearest(frames[on], stretches, mine)]] = 1
    clean_s = np.bincount(groups, seconds, num_groups).astype(np.float32)
    means = np.zeros((num_groups, embeddings.shape[1]), np.float32)
    np.add.at(means, groups, embeddings * (seconds / np.maximum(clean_s, 1e-6)[groups])[:, None])
    for column in silent_columns:
        columns = np.concatenate([columns, column[:, None]], 1)
    extra = len(silent_columns)
    return WindowVoices(
        columns,
        frame_s,
        np.concatenate([means, np.zeros((extra, means.shape[1]), np.float32)]),
        np.concatenate([clean_s, np.zeros(extra, np.float32)]),
    )


def _groups(voices: Ints, seconds: Floats, stretches: Sequence[Stretch], embeddings: Floats) -> Ints:
    """Each stretch's group, numbered from 0 without gaps."""
    groups = np.full(len(stretches), -1, np.int64)
    for voice in np.unique(voices):
        mine = np.flatnonzero(voices == voice)
        long = mine[seconds[mine] >= _MIN_GROUPED_S]
        if not len(long):
            groups[mine] = groups.max() + 1
            continue
        members = average_linkage(embeddings[long], seconds[long], _LEAST_NEARNESS).members
        groups[long] = groups.max() + 1 + members
        starts = np.array([stretches[index].start for index in mine.tolist()])
        groups[mine] = groups[_nearest(starts, stretches, long)]
    return groups


def _nearest(frames: Ints, stretches: Sequence[Stretch], among: Ints) -> Ints:
    """Of each of `frames`, which of the stretches `among` them is nearest, by its index."""
    runs = [(stretches[index].start, stretches[index].end) for index in among.tolist()]
    nearest: Ints = among[frames_away(frames, runs).argmin(1)]
    return nearest
