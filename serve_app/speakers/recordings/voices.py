"""The voices of one window, those told apart that the segmentation model took for one.

The model knows three voices in ten seconds. Where more speak, or two are alike, it gives turns of different
people to one of them; their embeddings tell. Each voice's runs (stretches without a pause) are embedded out
of one pass of the encoder, and runs that are far from each other become voices of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from serve_app.speakers.models.encoder import Audio, Embeddings, SpeakerEncoder, feature_frames
from serve_app.speakers.models.segmentation import FRAME_STEP_S, NUM_VOICES, Activity
from serve_app.speakers.ports import Run, frames_away, runs_of

MAX_VOICES = 5
"""In one window, after runs have been told apart."""
_PAUSE_FRAMES = round(0.2 / FRAME_STEP_S)
"""A shorter pause does not end a run."""
_LEAST_RUN_FRAMES = round(0.5 / FRAME_STEP_S)
"""A shorter run is no evidence; it goes with the nearest."""
_DIFFERENT_VOICES = 0.5
"""Cosine distance, average linkage. Of runs in one window, by the same voice: 0.47 at most (99 of 100) from
half a second on; by two voices: from 0.51."""

Frames = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Voices:
    """`activity` uint8 `(num_frames, MAX_VOICES)`; `embeddings` float32 `(MAX_VOICES, NUM_DIMENSIONS)` of
    length 1, of what each says alone, or of all it says where that is nothing; zeros for one not heard."""

    activity: Activity
    embeddings: Embeddings


def tell_apart(encoder: SpeakerEncoder, audio: Audio, activity: Activity) -> Voices:
    """The voices of a window of float32 `(num_samples,)` audio, given who is active `(num_frames,
    NUM_VOICES)`."""
    features = encoder.features(audio)
    separate = np.zeros((len(activity), MAX_VOICES), np.uint8)
    separate[:, :NUM_VOICES] = activity
    embeddings = np.zeros((MAX_VOICES, encoder.num_dimensions), np.float32)
    alone = alone_frames(activity)
    num_voices = NUM_VOICES
    for voice in range(NUM_VOICES):
        embedding, owner = _look_into(encoder, features, alone[:, voice] > 0, MAX_VOICES - num_voices)
        embeddings[voice] = embedding
        if owner is None:
            continue
        for number in range(1, int(owner.max()) + 1):
            separate[:, num_voices] = activity[:, voice] * (owner == number)
            num_voices += 1
        separate[:, voice] = activity[:, voice] * (owner == 0)
        changed = [voice, *range(num_voices - int(owner.max()), num_voices)]
        embeddings[changed] = encoder.embed_voices(features, alone_frames(separate)[:, changed])
    never_alone = separate.any(0) & ~embeddings.any(1)
    embeddings[never_alone] = encoder.embed_voices(features, separate[:, never_alone])
    return Voices(separate, embeddings)


def alone_frames(activity: Activity) -> Activity:
    """Activity `(..., num_voices)` without the frames in which several speak."""
    alone: Activity = activity * (activity.sum(-1, keepdims=True, dtype=np.uint8) < 2)
    return alone


def _long_runs(active: Frames) -> list[Run]:
    """The runs that are evidence, those a short pause apart joined."""
    runs: list[Run] = []
    for first, end in runs_of(active):
        if runs and first - runs[-1][1] < _PAUSE_FRAMES:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((first, end))
    return [(first, end) for first, end in runs if end - first >= _LEAST_RUN_FRAMES]


def _look_into(
    encoder: SpeakerEncoder, features: torch.Tensor, alone: Frames, room: int
) -> tuple[Embeddings, npt.NDArray[np.intp] | None]:
    """A voice's embedding and, where it is several, whose each frame is: 0 to `room`, the longest first."""
    mask = feature_frames(alone[:, None].astype(np.uint8), len(features))[:, 0]
    if not mask.any():
        return np.zeros(encoder.num_dimensions, np.float32), None
    runs = _long_runs(alone)
    if len(runs) < 2 or room < 1:
        return encoder.embed_features([features[torch.from_numpy(mask)]])[0], None
    # Where each run lies among the features that are kept.
    kept = np.r_[0, np.cumsum(mask)]
    rate = len(features) / len(alone)
    parts = [(int(kept[round(first * rate)]), int(kept[round(end * rate)])) for first, end in runs]
    whole, *pieces = encoder.embed_parts(features[torch.from_numpy(mask)], parts)
    groups = (
        fcluster(linkage(np.stack(pieces), "average", metric="cosine"), _DIFFERENT_VOICES, "distance") - 1
    )
    if groups.max() == 0:
        return whole, None
    lengths = np.bincount(groups, weights=[end - first for first, end in runs])
    longest = np.argsort(-lengths)[: room + 1].tolist()
    known = [
        (run, longest.index(group))
        for run, group in zip(runs, groups.tolist(), strict=True)
        if group in longest
    ]
    nearest = frames_away(np.arange(len(alone)), [run for run, _ in known]).argmin(1)
    owner = np.array([group for _, group in known])[nearest]
    return whole, owner
