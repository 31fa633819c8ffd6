import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.speakers.live.clustering import Floats, average_linkage


def unit(*rows: list[float]) -> Floats:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def weights(*values: float) -> Floats:
    return np.array(values, np.float32)


def test_near_rows_share_a_cluster_and_far_ones_do_not() -> None:
    rows = unit([1, 0], [0, 1], [1, 0.1], [0.1, 1])
    clusters = average_linkage(rows, weights(1, 1, 1, 1), 0.5)
    assert clusters.members.tolist() == [0, 1, 0, 1]
    assert clusters.weights.tolist() == [2, 2]


def test_means_are_by_weight_and_shorter_than_their_members() -> None:
    rows = unit([1, 0], [0.6, 0.8])
    clusters = average_linkage(rows, weights(3, 1), 0.5)
    assert clusters.means == pytest.approx(np.array([[0.9, 0.2]]))
    assert np.linalg.norm(clusters.means[0]) < 1


def test_it_is_the_average_that_decides_not_the_nearest_pair() -> None:
    # Each row is 0.77 near to the next, but the first is only 0.17 near to the third.
    rows = unit([1, 0], [np.cos(0.7), np.sin(0.7)], [np.cos(1.4), np.sin(1.4)])
    assert len(average_linkage(rows, weights(1, 1, 1), 0.6).means) == 2
    assert len(average_linkage(rows, weights(1, 1, 1), 0.4).means) == 1


def test_a_cluster_known_by_its_mean_is_as_near_as_its_members_are_on_average() -> None:
    random = np.random.default_rng(3)
    voices = unit(
        *(random.normal(size=(3, 1, 8)) + 0.3 * random.normal(size=(3, 5, 8))).reshape(15, 8).tolist()
    )
    apart = average_linkage(voices, weights(*[1] * 15), 0.5)
    first = voices[:5].mean(0, keepdims=True)
    summed = average_linkage(np.concatenate([first, voices[5:]]), weights(5, *[1] * 10), 0.5)
    assert apart.members[5:].tolist() == summed.members[1:].tolist()
    assert apart.means == pytest.approx(summed.means, abs=1e-5)


@given(st.integers(1, 30), st.integers(0, 1000), st.floats(-1, 1))
def test_clusters_are_numbered_without_gaps_and_apart_by_the_limit(
    num_rows: int, seed: int, limit: float
) -> None:
    random = np.random.default_rng(seed)
    rows = unit(*random.normal(size=(num_rows, 4)).tolist())
    clusters = average_linkage(rows, random.uniform(0.5, 4, num_rows).astype(np.float32), limit)
    assert sorted(set(clusters.members.tolist())) == list(range(len(clusters.means)))
    firsts = [clusters.members.tolist().index(cluster) for cluster in range(len(clusters.means))]
    assert firsts == sorted(firsts)
    nearness = clusters.means @ clusters.means.T - 3 * np.eye(len(clusters.means))
    assert nearness.max() < limit + 1e-4
