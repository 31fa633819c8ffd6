"""One batch in the torch decoder, as the token search asks for it: a token a step, or with drafts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.drafts import Opening, Predictions
from serve_app.asr.engines.lifting import uses_terms
from serve_app.asr.engines.search import (
    Beginning,
    IntArray,
    Step,
    drawn,
    num_candidates,
    pad_left,
    places_of,
)
from serve_app.asr.engines.torch_model import TorchWhisper
from serve_app.asr.features import FloatArray


class Runner(Protocol):
    """The decoder with a batch's keys and values in it: eagerly, or with shapes that stay the same."""

    def prefill(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read the prompts, `(num_rows, longest)`, padded on the left: hidden states of each token, and the
        alignment heads' scores where attention was asked for. Called once, first."""

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens `(num_rows, num_new)` more, the same number of each row: logits `(num_rows, num_new,
        vocabulary_size)`, and the scores."""

    def select(self, rows: IntArray) -> None:
        """Keep these rows, as `StepDecoder.select` says."""

    def drop_last(self, num_tokens: Sequence[int]) -> None:
        """Remove the last `num_tokens` tokens of each row."""


class TextCache:
    """Keys and values of one batch, in memory made once, read as far as it is filled."""

    def __init__(
        self, model: TorchWhisper, audio: Tensor, num_padding: Sequence[int], max_tokens: int
    ) -> None:
        """`audio`: the projected states. `num_padding`: tokens left of each prompt that are none."""
        layers, _, rows, heads, _, width = audio.shape
        self._audio = audio
        self._text = torch.empty(
            (layers, 2, rows, heads, max_tokens, width), dtype=model.dtype, device=model.device
        )
        self._max_position = model.shape.num_text_positions - 1
        self._set_padding(np.array(num_padding, dtype=np.int64))
        self._items: IntArray = np.arange(rows)
        self._first = self._length = 0
        self._mask: Tensor | None = None

    def advance(self, num_new: int) -> Tensor:
        """Make room for tokens of each row: their positions `(num_rows, num_new)`."""
        self._first, self._length = self._length, self._length + num_new
        places = torch.arange(self._first, self._length, device=self._padding.device)
        # torch's own causal mask takes the first new token for the first key, and would hide the cached ones.
        several_behind = num_new > 1 and self._first > 0
        self._mask = None
        if several_behind or self._num_padding.any():
            self._mask = causal_mask(places, self._length, self._padding)
        return (places[None, :] - self._padding[:, None]).clamp(0, self._max_position)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        own_keys, own_values = self._text[layer]
        own_keys[:, :, self._first : self._length] = keys
        own_values[:, :, self._first : self._length] = values
        return own_keys[:, :, : self._length], own_values[:, :, : self._length]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=self._mask,
            is_causal=self._mask is None and queries.shape[2] > 1,
        )

    def audio(self, layer: int) -> tuple[Tensor, Tensor]:
        return self._audio[layer, 0], self._audio[layer, 1]

    def audio_mask(self) -> Tensor | None:
        return None

    def select(self, rows: IntArray) -> None:
        chosen = torch.from_numpy(rows).to(self._text.device)
        kept = self._text[..., : self._length, :].index_select(2, chosen)
        if len(rows) != self._text.shape[2]:
            self._text = kept.new_empty((*kept.shape[:4], self._text.shape[4], kept.shape[5]))
        self._text[..., : self._length, :] = kept
        self._set_padding(self._num_padding[rows])
        # An item's rows lie together, and there are equally many of each.
        items = self._items[rows]
        left = items[np.flatnonzero(np.diff(items, prepend=-1))]
        if len(left) < self._audio.shape[2]:
            self._audio = self._audio.index_select(2, torch.from_numpy(left).to(self._audio.device))
        self._items = np.arange(len(left)).repeat(len(rows) // len(left))

    def drop_last(self, num_tokens: Sequence[int]) -> None:
        padding, self._length = aligned_right(self._num_padding, self._length, num_tokens)
        for row, (old, new) in enumerate(zip(self._num_padding, padding, strict=True)):
            move_row(self._text[:, :, row], old, new, self._length)
        self._set_padding(padding)

    def _set_padding(self, num_padding: IntArray) -> None:
        self._num_padding = num_padding
        self._padding = torch.from_numpy(num_padding).to(self._audio.device)

    @property
    def text(self) -> Tensor:
        """All of the text's keys and values there are, `(num_layers, 2, num_rows, num_heads, num_tokens,
        head_width)`."""
        return self._text[..., : self._length, :]


def causal_mask(places: Tensor, length: int, padding: Tensor) -> Tensor:
    """Which of `length` tokens those at `places` may attend to: `(num_rows, 1, len(places), length)`."""
    keys = torch.arange(length, device=places.device)
    upto = keys[None, :] <= places[:, None]
    # Padding attends to itself, lest the softmax of nothing spread.
    itself = keys[None, :] == places[:, None]
    real = keys[None, :] >= padding[:, None]
    return ((upto[None] & real[:, None]) | itself[None])[:, None]


def aligned_right(num_padding: IntArray, length: int, num_dropped: Sequence[int]) -> tuple[IntArray, int]:
    """The padding of each row, and the length of all, where all rows end together again without the last
    tokens of each."""
    lengths = length - num_padding - np.asarray(num_dropped, dtype=np.int64)
    longest = int(lengths.max())
    return longest - lengths, longest


def move_row(text: Tensor, old: int, new: int, length: int) -> None:
    """Move one row's keys and values `(..., num_tokens, head_width)` from padding `old` to `new`; `length`
    includes it."""
    if old != new:
        text[..., new:length, :] = text[..., old : old + length - new, :].clone()


class EagerRunner:
    """Operation by operation, on any device."""

    def __init__(
        self,
        model: TorchWhisper,
        audio: Tensor,
        num_padding: Sequence[int],
        max_tokens: int,
        *,
        attention: bool,
    ) -> None:
        self._model = model
        self._cache = TextCache(model, audio, num_padding, max_tokens)
        self._attention = attention

    def prefill(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        positions = self._cache.advance(tokens.shape[1])
        return self._model.decode(tokens, positions, self._cache, attention=self._attention)

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden, scores = self.prefill(tokens)
        return self._model.logits(hidden), scores

    def select(self, rows: IntArray) -> None:
        self._cache.select(rows)

    def drop_last(self, num_tokens: Sequence[int]) -> None:
        self._cache.drop_last(num_tokens)

    @property
    def text(self) -> Tensor:
        return self._cache.text


class TorchBatch:
    """What both decoders have in common. `start` and `no_speech`: those tokens' ids."""

    def __init__(
        self,
        model: TorchWhisper,
        runner: Runner,
        prompts: Sequence[Prompt],
        options: DecodeOptions,
        *,
        start: int,
        no_speech: int,
    ) -> None:
        self.model = model
        self.runner = runner
        self.prompts = prompts
        self.options = options
        self._start = start
        self._no_speech = no_speech
        self._num_states = max(prompt.num_states for prompt in prompts)
        self._suppressed = self._bias(options.suppressed)

    def begin(
        self, guesses: Sequence[Sequence[int]], num_forced: int = 0
    ) -> tuple[Tensor, FloatArray, FloatArray | None, Sequence[FloatArray] | None]:
        """Read the prompts and a guess behind each: logits `(num_rows, num_forced + longest guess + 1,
        vocabulary_size)` of the last `num_forced` tokens of each prompt, behind it and each guessed token;
        no-speech probabilities; attention behind the prompt and the guessed tokens; and of the prompts before
        that."""
        given, num_padding = pad_left([(*prompt.start, *prompt.forced) for prompt in self.prompts])
        last = len(given[0]) - 1
        tokens = torch.tensor(given, device=self.model.device)
        hidden, scores = self.runner.prefill(torch.cat((tokens, self.padded(guesses)), dim=1))
        places = places_of(self._start, self.prompts, num_padding)
        at_start = self.model.logits(hidden[torch.arange(len(places)), places])
        no_speech = at_start.softmax(dim=-1)[:, self._no_speech].cpu().numpy()
        weights = self.weights(scores)
        logits = self.model.logits(hidden[:, last - num_forced :])
        if weights is None:
            return logits, no_speech, None, None
        of_prompts = [weights[row, :, padding:last] for row, padding in enumerate(num_padding)]
        return logits, no_speech, weights[:, :, last:], of_prompts

    def padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """On the device, all as long as the longest."""
        longest = max(map(len, rows))
        ids = [[*row, *(0 for _ in range(longest - len(row)))] for row in rows]
        return torch.tensor(ids, dtype=torch.int64, device=self.model.device).view(len(rows), longest)

    def allowed(self, logits: Tensor, *, first: bool) -> Tensor:
        """Logits after suppression. `first`: they are those of `begin`."""
        allowed = logits + self._suppressed
        unforced = [row for row, prompt in enumerate(self.prompts) if not prompt.forced]
        if first and unforced and self.options.suppressed_first:
            allowed[unforced, 0] += self._bias(self.options.suppressed_first)
        return allowed

    def weights(self, scores: Tensor | None) -> FloatArray | None:
        """Softmaxed over all states, of which those that hold audio are handed on."""
        if scores is None:
            return None
        weights: FloatArray = scores.softmax(dim=-1)[..., : self._num_states].cpu().numpy()
        return weights

    def _bias(self, ids: Sequence[int]) -> Tensor:
        bias = torch.zeros(self.model.shape.vocabulary_size)
        bias[list(ids)] = -torch.inf
        return bias.to(self.model.device)


class TorchStepDecoder:
    """`StepDecoder` of the search."""

    def __init__(self, batch: TorchBatch) -> None:
        self._batch = batch
        self._num_candidates = num_candidates(batch.options)
        self._has_terms = uses_terms(batch.prompts, batch.options)

    def begin(self, draws: npt.NDArray[np.float64] | None) -> Beginning:
        logits, no_speech, weights, of_prompts = self._batch.begin([()] * len(self._batch.prompts))
        return Beginning(self._step(logits, weights, draws, first=True), no_speech, of_prompts)

    def step(self, tokens: IntArray, draws: npt.NDArray[np.float64] | None) -> Step:
        newest = torch.from_numpy(tokens).to(self._batch.model.device)[:, None]
        logits, scores = self._batch.runner.read(newest)
        return self._step(logits, self._batch.weights(scores), draws, first=False)

    def select(self, rows: IntArray) -> None:
        self._batch.runner.select(rows)

    def _step(
        self,
        logits: Tensor,
        weights: FloatArray | None,
        draws: npt.NDArray[np.float64] | None,
        *,
        first: bool,
    ) -> Step:
        allowed = self._batch.allowed(logits, first=first)[:, 0]
        attention = None if weights is None else weights[:, :, 0]
        sums = allowed.logsumexp(dim=-1, keepdim=True)
        if draws is None:
            best, ids = allowed.topk(self._num_candidates, dim=-1)
            table = (allowed - sums).cpu().numpy() if self._has_terms else None
            return Step(ids.cpu().numpy(), (best - sums).cpu().numpy(), attention, table)
        logprobs = (allowed - sums).cpu().numpy()
        chosen = drawn(logprobs, draws, self._batch.options.temperature)
        return Step(chosen, np.take_along_axis(logprobs, chosen, axis=1), attention)


class TorchDraftDecoder:
    """`DraftDecoder` of the search with drafts. `end`: that token's id."""

    def __init__(self, batch: TorchBatch, *, end: int) -> None:
        self._batch = batch
        self._end = end
        self._guesses: Sequence[Sequence[int]] = ()

    def begin(self, guesses: Sequence[Sequence[int]]) -> Opening:
        self._guesses = guesses
        forced: list[Sequence[int]] = []
        if self._batch.options.alignment:
            forced = [prompt.forced for prompt in self._batch.prompts]
        longest = max(map(len, forced), default=0)
        logits, no_speech, weights, of_prompts = self._batch.begin(guesses, longest)
        of_forced = [
            self._of_text(logits[row, longest - len(ids) : longest], self._batch.padded([ids])[0])
            for row, ids in enumerate(forced)
        ]
        predictions = self._predictions(logits[:, longest:], weights, first=True)
        return Opening(predictions, no_speech, of_prompts, of_forced if forced else None)

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> list[Predictions]:
        self._guesses = guesses
        rows = [(token, *guess) for token, guess in zip(tokens, guesses, strict=True)]
        logits, scores = self._batch.runner.read(self._batch.padded(rows))
        return self._predictions(logits, self._batch.weights(scores), first=False)

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        longest = max(map(len, self._guesses))
        if len(rows) < len(self._guesses):
            self._batch.runner.select(np.asarray(rows, dtype=np.int64))
        self._batch.runner.drop_last([longest - kept for kept in num_guessed])

    def _predictions(self, logits: Tensor, weights: FloatArray | None, *, first: bool) -> list[Predictions]:
        allowed = self._batch.allowed(logits, first=first)
        best, ids = allowed.max(dim=-1)
        logprobs = (best - allowed.logsumexp(dim=-1)).cpu().numpy()
        of_text = self._of_text(logits, ids) if self._batch.options.alignment else None
        found = ids.cpu().numpy()
        return [
            Predictions(
                found[row, :count],
                logprobs[row, :count],
                None if weights is None else weights[row, :, :count],
                None if of_text is None else of_text[row, :count],
            )
            for row, count in enumerate(len(guess) + 1 for guess in self._guesses)
        ]

    def _of_text(self, logits: Tensor, ids: Tensor) -> FloatArray:
        """Log-probabilities of these tokens among those under the end token, none of them suppressed."""
        chosen = logits.gather(-1, ids[..., None])[..., 0]
        found: FloatArray = (chosen - logits[..., : self._end].logsumexp(dim=-1)).cpu().numpy()
        return found
