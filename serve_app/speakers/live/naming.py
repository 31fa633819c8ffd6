"""Labels that stay: which cluster of voices goes on as which speaker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serve_app.speakers.live.clustering import Clusters, Floats, Ints
from serve_app.speakers.live.labeller_state import MAX_LIVE_SPEAKERS

NOBODY = -1


def name_clusters(
    clusters: Clusters,
    had: Ints,
    claims: Floats,
    evidence_s: Floats,
    free: Sequence[int],
    needed_s: float,
) -> Ints:
    """Of each cluster: the label of which it holds most, else a new one, else that of the nearest cluster.

    Of every row of the clustering, `had` is its label before (`NOBODY`: none), `claims` what that counts, and
    `evidence_s` the seconds of clear speech in it. A new label, the first of `free` that no cluster holds,
    takes `needed_s`; to keep one, half of that is enough.
    """
    evidence = largest_of_each(clusters.members, evidence_s)
    held = np.zeros((len(evidence), MAX_LIVE_SPEAKERS))
    named = had != NOBODY
    np.add.at(held, (clusters.members[named], had[named]), claims[named])
    labels = _claimed(held, evidence >= needed_s / 2)
    for cluster in np.flatnonzero(labels == NOBODY).tolist():
        left = [label for label in free if label not in labels]
        if left and (evidence[cluster] >= needed_s or not (labels != NOBODY).any()):
            labels[cluster] = left[0]
    if not (labels != NOBODY).any():
        labels = _claimed(held, evidence >= 0)
    chosen = np.flatnonzero(labels != NOBODY)
    for cluster in np.flatnonzero(labels == NOBODY).tolist():
        nearest = (clusters.means[chosen] @ clusters.means[cluster]).argmax()
        labels[cluster] = labels[chosen[nearest]]
    return labels


def _claimed(held: npt.NDArray[np.float64], clear: npt.NDArray[np.bool_]) -> Ints:
    """Of each cluster that is `clear`: the label on which it has the largest claim left; no label twice.

    `held` `(num_clusters, num_labels)`: the claim of each cluster on each label.
    """
    held = held.copy()
    labels = np.full(len(held), NOBODY)
    while held.max(initial=0) > 0:
        cluster, label = divmod(int(held.argmax()), held.shape[1])
        if clear[cluster]:
            labels[cluster] = label
            held[:, label] = 0
        held[cluster] = 0
    return labels


def largest_of_each(members: Ints, values: Floats) -> Floats:
    """The largest value of each cluster."""
    largest = np.zeros(int(members.max()) + 1, np.float32)
    np.maximum.at(largest, members, values)
    return largest
