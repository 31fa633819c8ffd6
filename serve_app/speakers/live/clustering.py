"""Agglomerative clustering of voice embeddings by average linkage, in numpy.

The nearness of two clusters is the mean cosine over all pairs of their members, weighted. Of unit vectors
that is the product of the clusters' means, so a cluster is known by its mean and its weight: a voice heard
for an hour takes part as one row among those of the last minute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Clusters:
    """`members` int64 `(num_rows,)`: each row's cluster, numbered by their first rows; `means` float32
    `(num_clusters, num_dimensions)`, shorter the more the members differ; `weights` float32
    `(num_clusters,)`.
    """

    members: Ints
    means: Floats
    weights: Floats


def average_linkage(means: Floats, weights: Floats, least_nearness: float) -> Clusters:
    """Merge the two nearest clusters for as long as they are at least `least_nearness` near.

    `means` float32 `(num_rows, num_dimensions)`: unit vectors, or weighted means of such; `weights` positive
    float32 `(num_rows,)`. A few milliseconds for 200 rows.
    """
    num_rows = len(means)
    totals = weights.astype(np.float64)
    nearness = means.astype(np.float64) @ means.astype(np.float64).T
    np.fill_diagonal(nearness, -np.inf)
    members = np.arange(num_rows)
    for _ in range(num_rows - 1):
        kept, gone = divmod(int(np.argmax(nearness)), num_rows)
        if not nearness[kept, gone] >= least_nearness:
            break
        # Lance and Williams' update for average linkage.
        share = totals[kept] / (totals[kept] + totals[gone])
        row = share * nearness[kept] + (1 - share) * nearness[gone]
        nearness[kept], nearness[:, kept] = row, row
        nearness[gone], nearness[:, gone] = -np.inf, -np.inf
        totals[kept] += totals[gone]
        members[members == gone] = kept
    return _clusters(members, means, weights)


def _clusters(members: Ints, means: Floats, weights: Floats) -> Clusters:
    _, first, members = np.unique(members, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    members = rank[members]
    totals: Floats = np.bincount(members, weights).astype(np.float32)
    averages = np.zeros((len(totals), means.shape[1]), np.float32)
    np.add.at(averages, members, means * (weights / totals[members])[:, None])
    return Clusters(members, averages, totals)
