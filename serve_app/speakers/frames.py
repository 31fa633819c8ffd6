"""Frames in which something is heard, and the runs that they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Run = tuple[int, int]
"""First frame, and the one behind the last."""


def runs_of(active: npt.NDArray[np.bool_]) -> list[Run]:
    """The runs of True in bool `(num_frames,)`, in order."""
    edges = np.flatnonzero(np.diff(np.r_[False, active, False].astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def frames_away(frames: npt.NDArray[np.int64], runs: Sequence[Run]) -> npt.NDArray[np.int64]:
    """How far each of `frames` is from each run, `(num_frames, num_runs)`; 0 within it."""
    starts, ends = np.array(runs).T
    away: npt.NDArray[np.int64] = np.maximum(
        np.maximum(starts - frames[:, None], frames[:, None] - ends + 1), 0
    )
    return away
