"""One batch in the decoder's graph, as the token search asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.onnx_model import OnnxStates, OnnxWhisper, TextCache
from serve_app.asr.engines.search import (
    Beginning,
    IntArray,
    Step,
    drawn,
    num_candidates,
    places_of,
    wants_attention,
)
from serve_app.asr.features import FloatArray

Draws = npt.NDArray[np.float64]


class OnnxStepDecoder:
    """`StepDecoder` of the search. `start` and `no_speech`: those tokens' ids."""

    def __init__(
        self,
        model: OnnxWhisper,
        states: OnnxStates,
        prompts: Sequence[Prompt],
        options: DecodeOptions,
        *,
        start: int,
        no_speech: int,
    ) -> None:
        self._prompts = prompts
        self._options = options
        self._start = start
        self._no_speech = no_speech
        self._attention = wants_attention(prompts, options)
        self._num_states = max(1, *(prompt.num_states for prompt in prompts))
        self._num_candidates = num_candidates(options)
        self._suppressed = list(options.suppressed)
        self._cache = TextCache(model, states.project(model))

    def begin(self, draws: Draws | None) -> Beginning:
        rows = [(*prompt.start, *prompt.forced) for prompt in self._prompts]
        last = [len(row) - 1 for row in rows]
        at_start = places_of(self._start, self._prompts, [0] * len(rows))
        places = np.array([at_start, last], dtype=np.int64).T
        logits, scores = self._cache.read(rows, places, attention=self._attention)
        no_speech = np.exp(log_softmax(logits[:, 0])[:, self._no_speech])
        first = np.array(logits[:, 1])
        if self._options.suppressed_first:
            unforced = [row for row, prompt in enumerate(self._prompts) if not prompt.forced]
            first[np.ix_(unforced, self._options.suppressed_first)] = -np.inf
        weights = self._weights(scores)
        if weights is None:
            return Beginning(self._step(first, None, draws), no_speech)
        of_last = weights[np.arange(len(rows)), :, last]
        attention = [weights[row, :, :end] for row, end in enumerate(last)]
        return Beginning(self._step(first, of_last, draws), no_speech, attention)

    def step(self, tokens: IntArray, draws: Draws | None) -> Step:
        places = np.zeros((len(tokens), 1), dtype=np.int64)
        logits, scores = self._cache.read(tokens[:, None].tolist(), places, attention=self._attention)
        weights = self._weights(scores)
        return self._step(np.array(logits[:, 0]), None if weights is None else weights[:, :, 0], draws)

    def select(self, rows: IntArray) -> None:
        self._cache.select(rows)

    def _step(self, logits: FloatArray, attention: FloatArray | None, draws: Draws | None) -> Step:
        logits[:, self._suppressed] = -np.inf
        logprobs = log_softmax(logits)
        ids = (
            _best(logprobs, self._num_candidates)
            if draws is None
            else drawn(logprobs, draws, self._options.temperature)
        )
        return Step(ids, np.take_along_axis(logprobs, ids, axis=1), attention)

    def _weights(self, scores: FloatArray | None) -> FloatArray | None:
        """Softmaxed over all states, of which those that hold audio are handed on."""
        return None if scores is None else softmax(scores)[..., : self._num_states]


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def softmax(scores: FloatArray) -> FloatArray:
    """Probabilities over the last axis."""
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found: FloatArray = raised / raised.sum(axis=-1, keepdims=True)
    return found


def _best(logprobs: FloatArray, num_candidates: int) -> IntArray:
    """Ids of the likeliest tokens, `(num_rows, num_candidates)`, best first."""
    if num_candidates == 1:
        best: IntArray = logprobs.argmax(axis=1)[:, None]
        return best
    some = np.argpartition(-logprobs, num_candidates - 1, axis=1)[:, :num_candidates]
    order = np.argsort(-np.take_along_axis(logprobs, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)
