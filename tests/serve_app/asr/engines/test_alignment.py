"""Median, dynamic time warping and the causal attended state, against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.asr.engines.alignment import CausalAttention, align_tokens, median_filter

NUM_HEADS = 3


def softmaxed(seed: int, num_tokens: int, num_states: int) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(0, 2, (NUM_HEADS, num_tokens, num_states))
    weights = np.exp(scores)
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("length", [1, 3, 4, 7, 50])
def test_median_is_that_of_seven_neighbours_with_mirrored_edges(length: int) -> None:
    values = np.random.default_rng(length).normal(size=(2, length)).astype(np.float32)
    if length <= 3:
        expected = values
    else:
        padded = np.pad(values, [(0, 0), (3, 3)], mode="reflect")
        expected = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7, axis=1), axis=-1)
    np.testing.assert_array_equal(median_filter(values), expected)


def plain_path(cost: np.ndarray) -> list[tuple[int, int]]:
    """openai-whisper's `dtw_cpu` and `backtrace`, cell by cell."""
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf, dtype=np.float32)
    moves = np.full((n + 1, m + 1), -1)
    total[0, 0] = 0
    for j in range(1, m + 1):
        for i in range(1, n + 1):
            both, token, state = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            if both < token and both < state:
                cheapest, move = both, 0
            elif token < both and token < state:
                cheapest, move = token, 1
            else:
                cheapest, move = state, 2
            total[i, j], moves[i, j] = cost[i - 1, j - 1] + cheapest, move
    moves[0, :], moves[:, 0] = 2, 1
    i, j, path = n, m, []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        i, j = i - (moves[i, j] != 2), j - (moves[i, j] != 1)
    return path[::-1]


@given(seed=st.integers(0, 10_000), num_tokens=st.integers(1, 9), num_states=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_path_is_that_of_the_plain_recursion(seed: int, num_tokens: int, num_states: int) -> None:
    num_start = 2
    weights = softmaxed(seed, num_start + num_tokens + 1, num_states)
    mean, deviation = weights.mean(axis=1, keepdims=True), weights.std(axis=1, keepdims=True)
    scores = (weights - mean) / np.maximum(deviation, np.finfo(np.float32).tiny)
    cost = -median_filter(scores).mean(axis=0)[num_start:-1]
    assert list(align_tokens(weights, num_start)) == plain_path(cost)


def test_path_follows_a_clear_diagonal() -> None:
    weights = np.full((NUM_HEADS, 5, 30), 1e-4, dtype=np.float32)
    for row, first in ((1, 0), (2, 10), (3, 20)):
        weights[:, row, first : first + 10] = 0.1
    path = align_tokens(weights, 1)
    starts = {token: min(state for other, state in path if other == token) for token, _ in path}
    assert starts == {0: 0, 1: 10, 2: 20}


# -- while decoding ----------------------------------------------------------------------------------


def online(weights: np.ndarray, num_read: int, num_states: int) -> list[int]:
    """One row alone: `num_read` tokens as the prompt, the rest one by one."""
    attention = CausalAttention([num_states])
    attended = attention.begin([weights[:, :num_read]])[0]
    for token in range(num_read, weights.shape[1]):
        attended.extend(attention.step(weights[None, :, token]))
    return attended


@given(seed=st.integers(0, 10_000), num_read=st.integers(0, 8), num_states=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_online_equals_all_at_once(seed: int, num_read: int, num_states: int) -> None:
    weights = softmaxed(seed, 8, 40)
    attended = online(weights, num_read, num_states)
    assert attended == online(weights, 8, num_states)
    assert all(0 <= state < num_states for state in attended)


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_later_tokens_change_nothing(seed: int, cut: int) -> None:
    weights = softmaxed(seed, 8, 30)
    assert online(weights[:, :cut], 2 if cut > 2 else 0, 30) == online(weights, 0, 30)[:cut]


def test_rows_do_not_depend_on_each_other() -> None:
    lengths = [40, 12, 25]
    rows = [softmaxed(seed, 9, 40) for seed in range(3)]
    expected = [
        online(row, 2 + i, length)[2 + i :] for i, (row, length) in enumerate(zip(rows, lengths, strict=True))
    ]
    attention = CausalAttention(lengths)
    attention.begin([row[:, : 2 + i] for i, row in enumerate(rows)])
    found: list[list[int]] = [[], [], []]
    live = [0, 1, 2]
    for step in range(5):
        if step == 2:
            attention.select(np.array([2, 1]))
            live = [2, 1]
        states = attention.step(np.stack([rows[row][:, 2 + row + step] for row in live]))
        for row, state in zip(live, states, strict=True):
            found[row].append(state)
    assert found == [expected[0][:2], expected[1][:5], expected[2][:5]]


def test_a_state_that_all_tokens_attend_to_does_not_count() -> None:
    num_tokens, num_states = 8, 60
    weights = np.full((NUM_HEADS, num_tokens, num_states), 1e-3, dtype=np.float32)
    weights[:, :, :8] = 0.05
    for token in range(2, num_tokens):
        weights[:, token, 6 * token + 2 : 6 * token + 8] = 0.03
    attended = online(weights, 2, num_states)[2:]
    assert all(6 * token + 2 <= state < 6 * token + 8 for token, state in enumerate(attended, start=2))
