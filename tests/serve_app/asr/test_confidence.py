"""A segment's confidence is a probability that means what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.confidence import segment_confidence

ANY = st.floats(allow_nan=True, allow_infinity=True)
LOGPROBS = st.floats(-20.0, 1.0)
PROBS = st.lists(st.floats(0.0, 1.0), max_size=20)

# Mean log-probability and share of right words of all segments around it (tiny.en and base, three languages,
# clean and degraded), ten bins of equal size.
MEASURED = (
    (-1.137, 0.253),
    (-0.718, 0.502),
    (-0.485, 0.684),
    (-0.356, 0.796),
    (-0.278, 0.856),
    (-0.218, 0.890),
    (-0.167, 0.947),
    (-0.132, 0.952),
    (-0.104, 0.974),
    (-0.068, 0.988),
)


@given(ANY, st.lists(ANY, max_size=5))
def test_any_input_gives_a_probability(avg_logprob: float, word_probs: list[float]) -> None:
    value = segment_confidence(avg_logprob, word_probs)
    assert math.isfinite(value)
    assert 0.0 <= value <= 1.0


@given(LOGPROBS, LOGPROBS, PROBS)
def test_it_never_falls_as_the_tokens_get_likelier(one: float, other: float, word_probs: list[float]) -> None:
    low, high = sorted((one, other))
    assert segment_confidence(low, word_probs) <= segment_confidence(high, word_probs)


@given(LOGPROBS, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_it_never_falls_as_the_words_get_likelier(avg_logprob: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert segment_confidence(avg_logprob, [low]) <= segment_confidence(avg_logprob, [high])


def test_it_tells_good_from_bad() -> None:
    assert segment_confidence(-0.05, [0.97] * 8) > 0.95
    assert segment_confidence(-1.2, [0.3] * 8) < 0.4
    assert segment_confidence(math.nan) == 0.0


def test_it_is_nearer_to_what_was_right_than_the_mean_probability() -> None:
    measured = np.array([right for _, right in MEASURED])
    ours = np.array([segment_confidence(avg_logprob) for avg_logprob, _ in MEASURED])
    naive = np.exp([avg_logprob for avg_logprob, _ in MEASURED])
    assert np.abs(ours - measured).mean() < 0.03
    assert np.abs(naive - measured).mean() > 2 * np.abs(ours - measured).mean()


@pytest.mark.parametrize("avg_logprob", [-math.inf, -1e9, 0.0, 5.0, math.inf])
def test_the_ends_of_the_scale(avg_logprob: float) -> None:
    assert segment_confidence(avg_logprob) in (
        segment_confidence(-10.0),
        segment_confidence(0.0),
    )
