"""One batch in the MLX decoder, a token a step, as the token search asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.lifting import uses_terms
from serve_app.asr.engines.mlx_model import MlxWhisper, log_softmax
from serve_app.asr.engines.search import (
    Beginning,
    IntArray,
    Step,
    drawn,
    num_candidates,
    pad_left,
    places_of,
    wants_attention,
)
from serve_app.asr.features import FloatArray

Draws = npt.NDArray[np.float64]


class MlxStepDecoder:
    """`StepDecoder` of the search, on one thread. `audio`: the projected states; `start` and `no_speech`:
    those tokens' ids."""

    def __init__(
        self,
        model: MlxWhisper,
        audio: mx.array,
        prompts: Sequence[Prompt],
        options: DecodeOptions,
        *,
        start: int,
        no_speech: int,
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._options = options
        self._start = start
        self._no_speech = no_speech
        self._attention = wants_attention(prompts, options)
        self._num_states = max(1, *(prompt.num_states for prompt in prompts))
        self._num_candidates = num_candidates(options)
        self._suppressed = self._bias(options.suppressed)
        self._has_terms = uses_terms(prompts, options)
        tokens, num_padding = pad_left([(*prompt.start, *prompt.forced) for prompt in prompts])
        self._tokens = mx.array(tokens, dtype=mx.int32)
        self._num_padding = num_padding
        self._cache = model.cache(audio, num_padding)

    def begin(self, draws: Draws | None) -> Beginning:
        hidden, scores = self._model.decode(self._tokens, self._cache, attention=self._attention)
        attention = None if scores is None else mx.softmax(scores, axis=-1)
        bias = mx.broadcast_to(self._suppressed, (len(self._prompts), len(self._suppressed)))
        if self._options.suppressed_first:
            unforced = mx.array([not prompt.forced for prompt in self._prompts])[:, None]
            bias = bias + mx.where(unforced, self._bias(self._options.suppressed_first), 0.0)
        no_speech = mx.exp(log_softmax(self._model.logits(self._at_start(hidden)))[:, self._no_speech])
        step = self._step(hidden, attention, bias, draws)
        return Beginning(step, np.array(no_speech), self._of_prompts(attention))

    def step(self, tokens: IntArray, draws: Draws | None) -> Step:
        hidden, scores = self._model.decode(
            mx.array(tokens.astype(np.int32))[:, None], self._cache, attention=self._attention
        )
        attention = None if scores is None else mx.softmax(scores, axis=-1)
        return self._step(hidden, attention, self._suppressed, draws)

    def select(self, rows: IntArray) -> None:
        self._cache.select([int(row) for row in rows])

    def _step(
        self, hidden: mx.array, attention: mx.array | None, bias: mx.array, draws: Draws | None
    ) -> Step:
        logprobs = log_softmax(self._model.logits(hidden[:, -1]) + bias)
        # The keys and values are evaluated too, lest each step's graph hang on to all before it.
        mx.eval(logprobs, self._cache.arrays())
        ids = (
            self._best(logprobs)
            if draws is None
            else drawn(np.array(logprobs), draws, self._options.temperature)
        )
        chosen = mx.take_along_axis(logprobs, mx.array(ids.astype(np.int32)), axis=-1)
        last = None if attention is None else np.array(attention[:, :, -1, : self._num_states])
        return Step(ids, np.array(chosen), last, np.array(logprobs) if self._has_terms else None)

    def _best(self, logprobs: mx.array) -> IntArray:
        """Ids of the likeliest tokens, `(num_rows, num_candidates)`, best first."""
        if self._num_candidates == 1:
            return np.array(mx.argmax(logprobs, axis=-1, keepdims=True)).astype(np.int64)
        some = mx.argpartition(-logprobs, self._num_candidates - 1, axis=-1)[:, : self._num_candidates]
        order = mx.argsort(-mx.take_along_axis(logprobs, some, axis=-1), axis=-1)
        return np.array(mx.take_along_axis(some, order, axis=-1)).astype(np.int64)

    def _at_start(self, hidden: mx.array) -> mx.array:
        """The hidden state at each prompt's start of transcript, `(num_prompts, width)`."""
        places = places_of(self._start, self._prompts, self._num_padding)
        return hidden[mx.arange(len(places)), mx.array(places)]

    def _of_prompts(self, attention: mx.array | None) -> list[FloatArray] | None:
        if attention is None:
            return None
        return [
            np.array(attention[row, :, padding:-1, : self._num_states])
            for row, padding in enumerate(self._num_padding)
        ]

    def _bias(self, ids: Sequence[int]) -> mx.array:
        bias = np.zeros(self._model.shape.vocabulary_size, dtype=np.float32)
        bias[list(ids)] = -np.inf
        return mx.array(bias)
