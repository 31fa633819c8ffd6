"""From the decoder's cross-attention to times: which audio each token stands for.

Two questions. Afterwards: a monotone path through a whole text (`align_tokens`), as openai-whisper and
CTranslate2 find it. While decoding: the state that the next token attends to (`CausalAttention`), from
nothing but the tokens so far, so that stopping online equals cutting the whole answer afterwards (AlignAtt,
Papi et al. 2023, arXiv 2305.11408).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.asr.features import FloatArray

MEDIAN_WIDTH = 7
_HALF = MEDIAN_WIDTH // 2


# A sorting network of seven that leaves the median in the middle (13 of the 16 comparators are needed).
_MEDIAN_OF_SEVEN = (
    *((0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)),
)


def median_filter(values: FloatArray) -> FloatArray:
    """The median of seven along the last axis, the edges mirrored; unchanged where it is 3 long or less."""
    if values.shape[-1] <= _HALF:
        return values
    widths = [(0, 0)] * (values.ndim - 1) + [(_HALF, _HALF)]
    return _median_of_windows(np.pad(values, widths, mode="reflect"))


def _median_of_windows(padded: FloatArray) -> FloatArray:
    """Medians of each seven neighbours: the last axis becomes 6 shorter."""
    length = padded.shape[-1] - 2 * _HALF
    lanes = [padded[..., shift : shift + length] for shift in range(MEDIAN_WIDTH)]
    for low, high in _MEDIAN_OF_SEVEN:
        lanes[low], lanes[high] = (
            np.minimum(lanes[low], lanes[high]),
            np.maximum(lanes[low], lanes[high]),
        )
    return lanes[_HALF]


# -- afterwards --------------------------------------------------------------------------------------


def align_tokens(weights: FloatArray, num_start: int, num_behind: int = 1) -> tuple[tuple[int, int], ...]:
    """The monotone path of (token, state) through a text.

    `weights` `(num_heads, num_tokens, num_states)`: softmaxed over the audio's own states, one row per token
    read: `num_start` of the start sequence, no-timestamps, the text, `num_behind` end tokens. Row `num_start`
    predicts the text's first token, so tokens of the path count from there, and the last stands for the end.
    """
    mean = weights.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(weights - mean).mean(axis=1, keepdims=True))
    scores = (weights - mean) / np.maximum(deviation, np.finfo(np.float32).tiny)
    matrix = median_filter(scores).mean(axis=0)[num_start : weights.shape[1] - num_behind]
    return _warp(-matrix)


def _warp(cost: FloatArray) -> tuple[tuple[int, int], ...]:
    """Dynamic time warping: the cheapest monotone path through `(num_tokens, num_states)`.

    Filled by antidiagonals, whose cells do not depend on each other; ties go where openai-whisper's do.
    """
    num_tokens, num_states = cost.shape
    if not num_tokens or not num_states:
        return ()
    # Skewed: row d of these holds the cells (i, d - i) at column i; row 0 and column 0 are the border.
    skewed = np.full((num_tokens + num_states + 1, num_tokens + 1), np.inf, dtype=np.float32)
    moves = np.zeros(skewed.shape, dtype=np.int8)
    skewed[0, 0] = 0.0
    for diagonal in range(2, num_tokens + num_states + 1):
        i = np.arange(max(1, diagonal - num_states), min(num_tokens, diagonal - 1) + 1)
        both, token, state = skewed[diagonal - 2, i - 1], skewed[diagonal - 1, i - 1], skewed[diagonal - 1, i]
        move = np.where((both < token) & (both < state), 0, np.where((token < both) & (token < state), 1, 2))
        cheapest = np.choose(move, (both, token, state))
        skewed[diagonal, i] = cost[i - 1, diagonal - i - 1] + cheapest
        moves[diagonal, i] = move
    return _trace(moves, num_tokens, num_states)


def _trace(moves: npt.NDArray[np.int8], num_tokens: int, num_states: int) -> tuple[tuple[int, int], ...]:
    """Walk back from the last cell; along the border once it is reached."""
    path = []
    i, j = num_tokens, num_states
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        move = 2 if i == 0 else 1 if j == 0 else int(moves[i + j, i])
        i -= move != 2
        j -= move != 1
    return tuple(reversed(path))


# -- while decoding ----------------------------------------------------------------------------------


class CausalAttention:
    """The state that each token of a batch's rows attends to, from the tokens so far.

    Weights less their mean over the tokens so far, divided by their deviation plus `_SOFTENING`: the mean
    takes away the sinks (states that every token attends to, the first above all), the softening keeps
    states of next to no weight from winning while the tokens are few. Then medians of seven states, the
    mean of the heads, and the largest of the audio's own states.
    """

    def __init__(self, num_states: Sequence[int]) -> None:
        """`num_states`: how many states hold the audio of each row, at least 1."""
        self._num_states = np.maximum(1, np.asarray(num_states, dtype=np.int64))
        self._mirrored = _mirrored(self._num_states)
        self._count = np.zeros(len(self._num_states))
        self._sum = self._squares = np.zeros((0, 0, 0))

    def begin(self, weights: Sequence[FloatArray]) -> list[list[int]]:
        """Take the prompts: per row `(num_heads, num_tokens, num_states)`. The attended state of each token
        read; that of the row that predicts the first new token comes with the first `step`."""
        longest = int(self._num_states.max())
        attended = []
        sums, squares = [], []
        for row, given in enumerate(weights):
            own = given[:, :, :longest].astype(np.float64)
            running, running_squares = own.cumsum(axis=1), np.square(own).cumsum(axis=1)
            counts = np.arange(1, own.shape[1] + 1)[None, :, None]
            scores = _scores(own, running, running_squares, counts).swapaxes(0, 1)
            mirrored = np.broadcast_to(self._mirrored[row], (len(scores), self._mirrored.shape[1]))
            own_states = np.broadcast_to(self._num_states[row], len(scores))
            attended.append(_peaks(scores, mirrored, own_states))
            nothing = np.zeros((own.shape[0], longest))
            sums.append(running[:, -1] if own.shape[1] else nothing)
            squares.append(running_squares[:, -1] if own.shape[1] else nothing)
            self._count[row] = own.shape[1]
        self._sum, self._squares = np.stack(sums), np.stack(squares)
        return attended

    def step(self, weights: FloatArray) -> list[int]:
        """Take one token more of each row, `(num_rows, num_heads, num_states)`: the state it attends to."""
        own = weights[:, :, : self._sum.shape[2]].astype(np.float64)
        self._sum += own
        self._squares += np.square(own)
        self._count += 1
        scores = _scores(own, self._sum, self._squares, self._count[:, None, None])
        return _peaks(scores, self._mirrored, self._num_states)

    def select(self, rows: npt.NDArray[np.int64]) -> None:
        """Keep these rows, in this order, some perhaps several times."""
        self._num_states = self._num_states[rows]
        self._mirrored = self._mirrored[rows]
        self._count = self._count[rows]
        self._sum = self._sum[rows]
        self._squares = self._squares[rows]


_SOFTENING = 0.01


def _scores(
    weights: npt.NDArray[np.float64],
    running: npt.NDArray[np.float64],
    running_squares: npt.NDArray[np.float64],
    counts: npt.NDArray[Any],
) -> FloatArray:
    mean = running / counts
    deviation = np.sqrt(np.maximum(0.0, running_squares / counts - np.square(mean)))
    scores: FloatArray = ((weights - mean) / (deviation + _SOFTENING)).astype(np.float32)
    return scores


def _mirrored(num_states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Per row the states under the median windows, `(num_rows, longest + 6)`: mirrored at the row's own end,
    so that what lies behind it, which depends on the batch, has no part."""
    places = np.arange(-_HALF, int(num_states.max()) + _HALF)[None, :]
    last = num_states[:, None] - 1
    return np.clip(np.abs(np.where(places > last, 2 * last - places, places)), 0, last)


def _peaks(
    scores: FloatArray, mirrored: npt.NDArray[np.int64], num_states: npt.NDArray[np.int64]
) -> list[int]:
    """The largest own state of each row's scores `(num_rows, num_heads, num_states)`."""
    padded = np.take_along_axis(scores, mirrored[:, None, :], axis=2)
    means = _median_of_windows(padded).mean(axis=1)
    behind = np.arange(means.shape[1])[None, :] >= num_states[:, None]
    return [int(state) for state in np.where(behind, -np.inf, means).argmax(axis=1)]
