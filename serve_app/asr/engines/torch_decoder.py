"""One batch in the torch decoder, a token a step, as the token search asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.lifting import uses_terms
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
from serve_app.asr.engines.torch_model import TorchWhisper
from serve_app.asr.features import FloatArray


class Runner(Protocol):
    """The decoder with a batch's keys and values in it: eagerly, or with shapes that stay the same."""

    def prefill(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read the prompts, `(num_rows, longest)`, padded on the left: hidden states of each token, and the
        alignment heads' scores where attention was asked for. Called once, first."""

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """One token `(num_rows,)` more: logits `(num_rows, vocabulary_size)`, and the scores."""

    def select(self, rows: IntArray) -> None:
        """Keep these rows, as `StepDecoder.select` says."""


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
        self._padding = torch.tensor(num_padding, device=model.device)
        self._padded = any(num_padding)
        self._items: IntArray = np.arange(rows)
        self._first = self._length = 0
        self._mask: Tensor | None = None

    def advance(self, num_new: int) -> Tensor:
        """Make room for tokens of each row: their positions `(num_rows, num_new)`."""
        self._first, self._length = self._length, self._length + num_new
        places = torch.arange(self._first, self._length, device=self._padding.device)
        if self._padded:
            self._mask = causal_mask(places, self._length, self._padding)
        return (places[None, :] - self._padding[:, None]).clamp_min(0)

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
        self._padding = self._padding[chosen]
        # An item's rows lie together, and there are equally many of each.
        items = self._items[rows]
        left = items[np.flatnonzero(np.diff(items, prepend=-1))]
        if len(left) < self._audio.shape[2]:
            self._audio = self._audio.index_select(2, torch.from_numpy(left).to(self._audio.device))
        self._items = np.arange(len(left)).repeat(len(rows) // len(left))

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

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden, scores = self.prefill(tokens[:, None])
        return self._model.logits(hidden[:, -1]), scores

    def select(self, rows: IntArray) -> None:
        self._cache.select(rows)

    @property
    def text(self) -> Tensor:
        return self._cache.text


class TorchStepDecoder:
    """`StepDecoder` of the search. `start` and `no_speech`: those tokens' ids."""

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
        self._model = model
        self._runner = runner
        self._prompts = prompts
        self._options = options
        self._start = start
        self._no_speech = no_speech
        self._attention = wants_attention(prompts, options)
        self._num_states = max(prompt.num_states for prompt in prompts)
        self._num_candidates = num_candidates(options)
        self._suppressed = self._bias(options.suppressed)
        self._has_terms = uses_terms(prompts, options)

    def begin(self, draws: npt.NDArray[np.float64] | None) -> Beginning:
        tokens, num_padding = pad_left([(*prompt.start, *prompt.forced) for prompt in self._prompts])
        hidden, scores = self._runner.prefill(torch.tensor(tokens, device=self._model.device))
        places = places_of(self._start, self._prompts, num_padding)
        at_start = self._model.logits(hidden[torch.arange(len(places)), places])
        no_speech = at_start.softmax(dim=-1)[:, self._no_speech].cpu().numpy()
        logits = self._model.logits(hidden[:, -1])
        unforced = [row for row, prompt in enumerate(self._prompts) if not prompt.forced]
        if unforced and self._options.suppressed_first:
            logits[unforced] += self._bias(self._options.suppressed_first)
        weights = self._weights(scores)
        last = None if weights is None else weights[:, :, -1]
        attention = None
        if weights is not None:
            attention = [weights[row, :, padding:-1] for row, padding in enumerate(num_padding)]
        return Beginning(self._step(logits, last, draws), no_speech, attention)

    def step(self, tokens: IntArray, draws: npt.NDArray[np.float64] | None) -> Step:
        logits, scores = self._runner.step(torch.from_numpy(tokens).to(self._model.device))
        weights = self._weights(scores)
        return self._step(logits, None if weights is None else weights[:, :, -1], draws)

    def select(self, rows: IntArray) -> None:
        self._runner.select(rows)

    def _step(
        self, logits: Tensor, attention: FloatArray | None, draws: npt.NDArray[np.float64] | None
    ) -> Step:
        logits += self._suppressed
        sums = logits.logsumexp(dim=-1, keepdim=True)
        if draws is None:
            best, ids = logits.topk(self._num_candidates, dim=-1)
            table = (logits - sums).cpu().numpy() if self._has_terms else None
            return Step(ids.cpu().numpy(), (best - sums).cpu().numpy(), attention, table)
        logprobs = (logits - sums).cpu().numpy()
        chosen = drawn(logprobs, draws, self._options.temperature)
        return Step(chosen, np.take_along_axis(logprobs, chosen, axis=1), attention)

    def _weights(self, scores: Tensor | None) -> FloatArray | None:
        """Softmaxed over all states, of which those that hold audio are handed on."""
        if not self._attention or scores is None:
            return None
        weights: FloatArray = scores.softmax(dim=-1)[..., : self._num_states].cpu().numpy()
        return weights

    def _bias(self, ids: Sequence[int]) -> Tensor:
        bias = torch.zeros(self._model.shape.vocabulary_size)
        bias[list(ids)] = -torch.inf
        return bias.to(self._model.device)
