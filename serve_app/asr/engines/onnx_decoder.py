"""One batch in the decoder's graph, as the token search asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.drafts import Opening, Predictions, needs_weights
from serve_app.asr.engines.onnx_model import OnnxWhisper, TextCache
from serve_app.asr.engines.search import (
    Beginning,
    IntArray,
    Step,
    drawn,
    num_candidates,
    places_of,
    wants_attention,
)
from serve_app.asr.engines.whisper_engine import softmax
from serve_app.asr.features import FloatArray

Draws = npt.NDArray[np.float64]


class OnnxBatch:
    """What both decoders have in common. `audio`: the projected states; `start` and `no_speech`: those
    tokens' ids."""

    def __init__(
        self,
        model: OnnxWhisper,
        audio: FloatArray,
        prompts: Sequence[Prompt],
        options: DecodeOptions,
        *,
        start: int,
        no_speech: int,
    ) -> None:
        self.prompts = prompts
        self.options = options
        self.cache = TextCache(model, audio)
        self._start = start
        self._no_speech = no_speech
        self._suppressed = list(options.suppressed)

    def begin(
        self, guesses: Sequence[Sequence[int]], num_forced: Sequence[int] = (), *, attention: bool = False
    ) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        """Read the prompts and a guess behind each: logits `(num_rows, longest + 1, vocabulary_size)` of the
        last `num_forced` forced tokens, behind the prompt and behind each guessed token; no-speech
        probabilities; scores."""
        num_forced = num_forced or [0] * len(self.prompts)
        given = [(*prompt.start, *prompt.forced) for prompt in self.prompts]
        rows = [(*prompt, *guess) for prompt, guess in zip(given, guesses, strict=True)]
        at_start = places_of(self._start, self.prompts, [0] * len(rows))
        first = [len(prompt) - 1 - count for prompt, count in zip(given, num_forced, strict=True)]
        num_behind = [count + len(guess) for count, guess in zip(num_forced, guesses, strict=True)]
        behind = places_behind(first, num_behind)
        places = np.concatenate([np.array(at_start, dtype=np.int64)[:, None], behind], axis=1)
        logits, scores = self.cache.read(rows, places, attention=attention)
        no_speech = np.exp(log_softmax(logits[:, 0])[:, self._no_speech])
        return logits[:, 1:], no_speech, scores

    def logprobs(self, logits: FloatArray, *, first: bool) -> FloatArray:
        """Log-probabilities after suppression."""
        return log_softmax(self.allowed(logits, first=first))

    def allowed(self, logits: FloatArray, *, first: bool) -> FloatArray:
        """Logits after suppression. `first`: they are those of `begin`."""
        allowed = np.array(logits)
        allowed[:, :, self._suppressed] = -np.inf
        if first and self.options.suppressed_first:
            unforced = [row for row, prompt in enumerate(self.prompts) if not prompt.forced]
            allowed[np.ix_(unforced, [0], self.options.suppressed_first)] = -np.inf
        return allowed


class OnnxStepDecoder:
    """`StepDecoder` of the search."""

    def __init__(self, batch: OnnxBatch) -> None:
        self._batch = batch
        self._attention = wants_attention(batch.prompts, batch.options)
        self._num_states = max(1, *(prompt.num_states for prompt in batch.prompts))
        self._num_candidates = num_candidates(batch.options)

    def begin(self, draws: Draws | None) -> Beginning:
        prompts = self._batch.prompts
        logits, no_speech, scores = self._batch.begin([()] * len(prompts), attention=self._attention)
        logprobs = self._batch.logprobs(logits, first=True)
        weights = self._weights(scores)
        if weights is None:
            return Beginning(self._step(logprobs[:, 0], None, draws), no_speech)
        last = [len(prompt.start) + len(prompt.forced) - 1 for prompt in prompts]
        of_last = weights[np.arange(len(last)), :, last]
        attention = [weights[row, :, :end] for row, end in enumerate(last)]
        return Beginning(self._step(logprobs[:, 0], of_last, draws), no_speech, attention)

    def step(self, tokens: IntArray, draws: Draws | None) -> Step:
        places = np.zeros((len(tokens), 1), dtype=np.int64)
        logits, scores = self._batch.cache.read(tokens[:, None].tolist(), places, attention=self._attention)
        logprobs = self._batch.logprobs(logits, first=False)
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
    """`DraftDecoder` of the search with drafts. `end`: that token's id."""

    def __init__(self, batch: OnnxBatch, *, end: int) -> None:
        self._batch = batch
        self._end = end
        self._attention = needs_weights(batch.prompts, batch.options)
        self._num_states = max(1, *(prompt.num_states for prompt in batch.prompts))
        self._guesses: Sequence[Sequence[int]] = ()

    def begin(self, guesses: Sequence[Sequence[int]]) -> Opening:
        self._guesses = guesses
        prompts = self._batch.prompts
        forced = [prompt.forced if self._batch.options.alignment else () for prompt in prompts]
        num_forced = [len(ids) for ids in forced]
        logits, no_speech, scores = self._batch.begin(guesses, num_forced, attention=self._attention)
        last = [len(prompt.start) + len(prompt.forced) - 1 for prompt in prompts]
        weights = self._weights(scores)
        predictions = self._predictions(logits, weights, last, num_forced, first=True)
        if weights is None:
            return Opening(predictions, no_speech)
        of_forced = [
            self._of_text(logits[row, : len(ids)], np.array(ids, dtype=np.int64))
            for row, ids in enumerate(forced)
        ]
        attention = [weights[row, :, :end] for row, end in enumerate(last)]
        return Opening(predictions, no_speech, attention, of_forced)

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> list[Predictions]:
        self._guesses = guesses
        rows = [(token, *guess) for token, guess in zip(tokens, guesses, strict=True)]
        at = [0] * len(rows)
        places = places_behind(at, [len(guess) for guess in guesses])
        logits, scores = self._batch.cache.read(rows, places, attention=self._attention)
        return self._predictions(logits, self._weights(scores), at, at, first=False)

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        cache = self._batch.cache
        cache.select(np.asarray(rows, dtype=np.int64))
        cache.drop_last([len(self._guesses[row]) - kept for row, kept in zip(rows, num_guessed, strict=True)])

    def _predictions(
        self,
        logits: FloatArray,
        weights: FloatArray | None,
        at: Sequence[int],
        skipped: Sequence[int],
        *,
        first: bool,
    ) -> list[Predictions]:
        """`at`: where each row's first prediction is among the tokens that were read, `skipped`: and among
        its logits."""
        allowed = self._batch.allowed(logits, first=first)
        best = allowed.argmax(axis=-1)
        values = (np.take_along_axis(allowed, best[..., None], axis=-1) - log_sum(allowed))[..., 0]
        of_text = self._of_text(logits, best) if self._batch.options.alignment else None
        found = []
        for row, guess in enumerate(self._guesses):
            own = slice(skipped[row], skipped[row] + len(guess) + 1)
            read = slice(at[row], at[row] + len(guess) + 1)
            found.append(
                Predictions(
                    best[row, own],
                    values[row, own],
                    None if weights is None else weights[row, :, read],
                    None if of_text is None else of_text[row, own],
                )
            )
        return found

    def _of_text(self, logits: FloatArray, ids: IntArray) -> FloatArray:
        """Log-probabilities of these tokens among those under the end token, none of them suppressed."""
        chosen = np.take_along_axis(logits, ids[..., None], axis=-1)
        found: FloatArray = (chosen - log_sum(logits[..., : self._end]))[..., 0]
        return found

    def _weights(self, scores: FloatArray | None) -> FloatArray | None:
        return None if scores is None else softmax(scores)[..., : self._num_states]


class OnnxTableDecoder:
    """`TableDecoder` of the search with terms."""

    def __init__(self, batch: OnnxBatch) -> None:
        self._batch = batch
        self._guesses: Sequence[Sequence[int]] = ()

    def begin(self, guesses: Sequence[Sequence[int]]) -> tuple[FloatArray, FloatArray]:
        self._guesses = guesses
        logits, no_speech, _ = self._batch.begin(guesses)
        return self._batch.logprobs(logits, first=True), no_speech

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> FloatArray:
        self._guesses = guesses
        rows = [(token, *guess) for token, guess in zip(tokens, guesses, strict=True)]
        places = places_behind([0] * len(rows), [len(guess) for guess in guesses])
        logits, _ = self._batch.cache.read(rows, places, attention=False)
        return self._batch.logprobs(logits, first=False)

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        cache = self._batch.cache
        cache.select(np.asarray(rows, dtype=np.int64))
        cache.drop_last([len(self._guesses[row]) - kept for row, kept in zip(rows, num_guessed, strict=True)])


def places_behind(first: Sequence[int], num_behind: Sequence[int]) -> IntArray:
    """Each row's first place and those behind it, `(num_rows, most of them + 1)`; the last again where a row
    has fewer."""
    steps = np.minimum(np.arange(max(num_behind) + 1), np.array(num_behind)[:, None])
    places: IntArray = np.asarray(first, dtype=np.int64)[:, None] + steps
    return places


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities over the last axis."""
    found: FloatArray = logits - log_sum(logits)
    return found


def log_sum(logits: FloatArray) -> FloatArray:
    """The logarithm of the sum of the exponents over the last axis, which stays."""
    largest = logits.max(axis=-1, keepdims=True)
    found: FloatArray = largest + np.log(np.exp(logits - largest).sum(axis=-1, keepdims=True))
    return found


def _best(logprobs: FloatArray, num_candidates: int) -> IntArray:
    """Ids of the likeliest tokens, `(num_rows, num_candidates)`, best first."""
    if num_candidates == 1:
        best: IntArray = logprobs.argmax(axis=1)[:, None]
        return best
    some = np.argpartition(-logprobs, num_candidates - 1, axis=1)[:, :num_candidates]
    order = np.argsort(-np.take_along_axis(logprobs, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)
