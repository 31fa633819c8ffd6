"""One batch in the decoder's graph, as the token search asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.drafts import Predictions
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


class OnnxBatch:
    """What both decoders have in common. `start` and `no_speech`: those tokens' ids."""

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
        self.prompts = prompts
        self.options = options
        self.cache = TextCache(model, states.project(model))
        self._start = start
        self._no_speech = no_speech
        self._suppressed = list(options.suppressed)

    def begin(
        self, guesses: Sequence[Sequence[int]], *, attention: bool = False
    ) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        """Read the prompts and a guess behind each: log-probabilities `(num_rows, longest guess + 1,
        vocabulary_size)` behind the prompt and each guessed token, no-speech probabilities, scores."""
        given = [(*prompt.start, *prompt.forced) for prompt in self.prompts]
        rows = [(*prompt, *guess) for prompt, guess in zip(given, guesses, strict=True)]
        at_start = places_of(self._start, self.prompts, [0] * len(rows))
        behind = places_behind([len(prompt) - 1 for prompt in given], guesses)
        places = np.concatenate([np.array(at_start, dtype=np.int64)[:, None], behind], axis=1)
        logits, scores = self.cache.read(rows, places, attention=attention)
        no_speech = np.exp(log_softmax(logits[:, 0])[:, self._no_speech])
        first = np.array(logits[:, 1:])
        if self.options.suppressed_first:
            unforced = [row for row, prompt in enumerate(self.prompts) if not prompt.forced]
            first[np.ix_(unforced, [0], self.options.suppressed_first)] = -np.inf
        return self._logprobs(first), no_speech, scores

    def read(
        self, rows: Sequence[Sequence[int]], places: IntArray, *, attention: bool = False
    ) -> tuple[FloatArray, FloatArray | None]:
        """Log-probabilities behind the tokens at `places`, and scores."""
        logits, scores = self.cache.read(rows, places, attention=attention)
        return self._logprobs(np.array(logits)), scores

    def _logprobs(self, logits: FloatArray) -> FloatArray:
        logits[:, :, self._suppressed] = -np.inf
        return log_softmax(logits)


class OnnxStepDecoder:
    """`StepDecoder` of the search."""

    def __init__(self, batch: OnnxBatch) -> None:
        self._batch = batch
        self._attention = wants_attention(batch.prompts, batch.options)
        self._num_states = max(1, *(prompt.num_states for prompt in batch.prompts))
        self._num_candidates = num_candidates(batch.options)

    def begin(self, draws: Draws | None) -> Beginning:
        prompts = self._batch.prompts
        logprobs, no_speech, scores = self._batch.begin([()] * len(prompts), attention=self._attention)
        weights = self._weights(scores)
        if weights is None:
            return Beginning(self._step(logprobs[:, 0], None, draws), no_speech)
        last = [len(prompt.start) + len(prompt.forced) - 1 for prompt in prompts]
        of_last = weights[np.arange(len(last)), :, last]
        attention = [weights[row, :, :end] for row, end in enumerate(last)]
        return Beginning(self._step(logprobs[:, 0], of_last, draws), no_speech, attention)

    def step(self, tokens: IntArray, draws: Draws | None) -> Step:
        places = np.zeros((len(tokens), 1), dtype=np.int64)
        logprobs, scores = self._batch.read(tokens[:, None].tolist(), places, attention=self._attention)
        weights = self._weights(scores)
        return self._step(logprobs[:, 0], None if weights is None else weights[:, :, 0], draws)

    def select(self, rows: IntArray) -> None:
        self._batch.cache.select(rows)

    def _step(self, logprobs: FloatArray, attention: FloatArray | None, draws: Draws | None) -> Step:
        ids = (
            _best(logprobs, self._num_candidates)
            if draws is None
            else drawn(logprobs, draws, self._batch.options.temperature)
        )
        return Step(ids, np.take_along_axis(logprobs, ids, axis=1), attention)

    def _weights(self, scores: FloatArray | None) -> FloatArray | None:
        """Softmaxed over all states, of which those that hold audio are handed on."""
        return None if scores is None else softmax(scores)[..., : self._num_states]


class OnnxDraftDecoder:
    """`DraftDecoder` of the search with drafts."""

    def __init__(self, batch: OnnxBatch) -> None:
        self._batch = batch
        self._guesses: Sequence[Sequence[int]] = ()

    def begin(self, guesses: Sequence[Sequence[int]]) -> tuple[list[Predictions], FloatArray]:
        self._guesses = guesses
        logprobs, no_speech, _ = self._batch.begin(guesses)
        return self._predictions(logprobs), no_speech

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> list[Predictions]:
        self._guesses = guesses
        rows = [(token, *guess) for token, guess in zip(tokens, guesses, strict=True)]
        logprobs, _ = self._batch.read(rows, places_behind([0] * len(rows), guesses))
        return self._predictions(logprobs)

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        cache = self._batch.cache
        cache.select(np.asarray(rows, dtype=np.int64))
        cache.drop_last([len(self._guesses[row]) - kept for row, kept in zip(rows, num_guessed, strict=True)])

    def _predictions(self, logprobs: FloatArray) -> list[Predictions]:
        best = logprobs.argmax(axis=-1)
        values = np.take_along_axis(logprobs, best[..., None], axis=-1)[..., 0]
        return [
            Predictions(best[row, : len(guess) + 1], values[row, : len(guess) + 1])
            for row, guess in enumerate(self._guesses)
        ]


class OnnxTableDecoder:
    """`TableDecoder` of the search with terms."""

    def __init__(self, batch: OnnxBatch) -> None:
        self._batch = batch
        self._guesses: Sequence[Sequence[int]] = ()

    def begin(self, guesses: Sequence[Sequence[int]]) -> tuple[FloatArray, FloatArray]:
        self._guesses = guesses
        logprobs, no_speech, _ = self._batch.begin(guesses)
        return logprobs, no_speech

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> FloatArray:
        self._guesses = guesses
        rows = [(token, *guess) for token, guess in zip(tokens, guesses, strict=True)]
        logprobs, _ = self._batch.read(rows, places_behind([0] * len(rows), guesses))
        return logprobs

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        cache = self._batch.cache
        cache.select(np.asarray(rows, dtype=np.int64))
        cache.drop_last([len(self._guesses[row]) - kept for row, kept in zip(rows, num_guessed, strict=True)])


def places_behind(first: Sequence[int], guesses: Sequence[Sequence[int]]) -> IntArray:
    """The place before each row's guess and those of its tokens, `(num_rows, longest guess + 1)`; the last
    again where a row's guess is shorter."""
    longest = max(map(len, guesses))
    lengths = np.array([len(guess) for guess in guesses])[:, None]
    places: IntArray = np.asarray(first, dtype=np.int64)[:, None] + np.minimum(
        np.arange(longest + 1), lengths
    )
    return places


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
