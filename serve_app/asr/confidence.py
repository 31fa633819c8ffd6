"""How probable it is that a word of a segment is right, out of what the decode says of itself.

A logistic of two logits: of the mean token probability, `exp(avg_logprob)`, and of the mean word
probability of the alignment (Guo et al. 2017, "On Calibration of Modern Neural Networks", Platt scaling with
one input more). `no_speech_prob`, the least word probability and the length added nothing.

Fitted on 2026-11-21 over 1,666 segments (19,822 words, each right or wrong after alignment with what was
said) of tiny.en and base: English, German and Spanish, clean, 20 and 30 dB quieter, and with noise and
babble 10, 5 and 0 dB under the voice. Expected calibration error on the half of the clips not fitted on
(mean of both ways, ten bins of equal size): 0.074 for `exp(avg_logprob)`, 0.018 here, 0.021 without word
probabilities. German is the least certain: base gets fewer words right there than it believes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_WITHOUT_WORDS: Final = (0.035, 1.568)
_WITH_WORDS: Final = (-0.169, 0.820, 0.726)
MAX_DOUBTED: Final = 0.3
"""Of a text that a guard does not believe; under every threshold that asks for believable text."""
_CLIP: Final = 0.01
"""Probabilities this near to 0 and 1 say no more: the fit saw none beyond."""


def segment_confidence(avg_logprob: float, word_probs: Sequence[float] = ()) -> float:
    """The share of a segment's words that are right, expected; in (0, 1), 0 where nothing is known.

    `avg_logprob` is the mean log-probability per token, end token included; `word_probs` the words'
    probabilities, empty where they were not aligned. Rises with each of them.
    """
    if math.isnan(avg_logprob):
        return 0.0
    token = _logit(math.exp(min(0.0, avg_logprob)))
    known = [probability for probability in word_probs if math.isfinite(probability)]
    if not known:
        offset, by_token = _WITHOUT_WORDS
        return _logistic(offset + by_token * token)
    offset, by_token, by_word = _WITH_WORDS
    return _logistic(offset + by_token * token + by_word * _logit(sum(known) / len(known)))


def _logit(probability: float) -> float:
    clipped = min(1.0 - _CLIP, max(_CLIP, probability))
    return math.log(clipped / (1.0 - clipped))


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))
