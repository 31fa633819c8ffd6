"""The decoder's step as a CUDA graph: one launch, since launching its kernels takes longer than they run.

A graph replays fixed addresses and shapes. So the keys and values of a batch lie in buffers that stay, a
batch's sizes are rounded up to a few, and one graph is captured for each of these when it first comes.

The bookkeeping (buffers, masks, rows) is tested on a CPU, where the step is called instead of replayed.
Capture and replay themselves were written without a card at hand and have not run. Where a capture fails,
the step is called, which is right and slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import structlog
import torch
from torch import Tensor
from torch.nn import functional

from serve_app.asr.engines.drafts import MAX_GUESS_TOKENS, REPLACEMENT_TOKENS
from serve_app.asr.engines.search import IntArray
from serve_app.asr.engines.torch_decoder import EagerRunner, aligned_right, move_row
from serve_app.asr.engines.torch_model import TorchWhisper
from serve_app.models.footprint import MAX_TEXT_POSITIONS

MAX_GRAPHS = 64
_STATES_STEP = 256
_TOKEN_BUCKETS = (128, 256, MAX_TEXT_POSITIONS, MAX_TEXT_POSITIONS + MAX_GUESS_TOKENS)
_NEW_BUCKETS = (1, 1 + REPLACEMENT_TOKENS, 1 + MAX_GUESS_TOKENS)
"""Tokens that are read at once: the newest, and what is guessed behind it."""

_log = structlog.get_logger(__name__)

Body = Callable[[], tuple[Tensor, Tensor | None]]


class Sizes(NamedTuple):
    """What one graph is made for: all that its shapes depend on."""

    num_items: int
    beam_size: int
    num_tokens: int
    num_states: int
    attention: bool
    num_new: int = 1


def round_up(num_items: int, beam_size: int, num_tokens: int, num_states: int, *, attention: bool) -> Sizes:
    """The sizes that a batch is padded to: powers of two of items, few lengths of text, 256 states a step."""
    items = 1 << (num_items - 1).bit_length()
    tokens = next((bucket for bucket in _TOKEN_BUCKETS if bucket >= num_tokens), MAX_TEXT_POSITIONS)
    return Sizes(items, beam_size, tokens, -(-num_states // _STATES_STEP) * _STATES_STEP, attention)


def capture_cuda(body: Body) -> Body:
    """Capture a step; calling the result replays it into the same tensors. Raises RuntimeError."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Libraries choose and allocate on their first calls, which a capture must not see.
        for _ in range(2):
            body()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = body()

    def replay() -> tuple[Tensor, Tensor | None]:
        graph.replay()
        return results

    return replay


@dataclass(slots=True)
class _Buffers:
    """`text`, `audio` `(num_layers, 2, rows or items, num_heads, tokens or states, head_width)`; per row the
    newest tokens and the padding left of its prompt; the first new token's place and the states there are."""

    text: Tensor
    audio: Tensor
    tokens: Tensor
    padding: Tensor
    place: Tensor
    num_states: Tensor


class GraphArena:
    """One device's buffers, as large as the largest batch so far, and the graphs over them.

    One batch at a time: the engine holds its lock.
    """

    def __init__(self, model: TorchWhisper, capture: Callable[[Body], Body] = capture_cuda) -> None:
        self.model = model
        self._capture = capture
        self._buffers: _Buffers | None = None
        self._steps: dict[Sizes, Body] = {}

    def reserve(self, sizes: Sizes) -> _Buffers:
        """Buffers that hold these sizes. Larger ones than so far void all graphs."""
        shape, device = self.model.shape, self.model.device
        num_items, num_tokens, num_states = sizes.num_items, sizes.num_tokens, sizes.num_states
        rows = num_items * sizes.beam_size
        held = self._buffers
        wanted = (rows, num_items, num_tokens, num_states)
        if held is not None:
            has = (held.text.shape[2], held.audio.shape[2], held.text.shape[4], held.audio.shape[4])
            if all(a >= b for a, b in zip(has, wanted, strict=True)):
                return held
            rows, num_items, num_tokens, num_states = map(max, has, wanted)
        self._steps.clear()
        self._buffers = held = None
        layers, heads = shape.num_decoder_layers, shape.num_decoder_heads
        width = shape.width // heads
        dtype = self.model.dtype
        self._buffers = _Buffers(
            text=torch.zeros((layers, 2, rows, heads, num_tokens, width), dtype=dtype, device=device),
            audio=torch.zeros((layers, 2, num_items, heads, num_states, width), dtype=dtype, device=device),
            tokens=torch.zeros((rows, _NEW_BUCKETS[-1]), dtype=torch.int64, device=device),
            padding=torch.zeros(rows, dtype=torch.int64, device=device),
            place=torch.zeros(1, dtype=torch.int64, device=device),
            num_states=torch.zeros(1, dtype=torch.int64, device=device),
        )
        return self._buffers

    def step(self, sizes: Sizes) -> Body:
        """The step for these sizes; captured when first asked for."""
        if sizes not in self._steps:
            if len(self._steps) >= MAX_GRAPHS:
                self._steps.pop(next(iter(self._steps)))
            self._steps[sizes] = self._captured(_Step(self.model, self.reserve(sizes), sizes))
        return self._steps[sizes]

    def _captured(self, body: Body) -> Body:
        try:
            return self._capture(body)
        except RuntimeError as error:
            _log.warning("a step cannot be captured, it is called instead", error=type(error).__name__)
            return body


class _Step:
    """One step over the front of the buffers: the decoder's `KeyValues` with shapes that never change."""

    def __init__(self, model: TorchWhisper, buffers: _Buffers, sizes: Sizes) -> None:
        rows = sizes.num_items * sizes.beam_size
        self._model = model
        self._buffers = buffers
        self._attention = sizes.attention
        self._text = buffers.text[:, :, :rows, :, : sizes.num_tokens]
        self._audio = buffers.audio[:, :, : sizes.num_items, :, : sizes.num_states]
        self._tokens, self._padding = buffers.tokens[:rows, : sizes.num_new], buffers.padding[:rows]
        self._new = torch.arange(sizes.num_new, device=model.device)
        self._places = self._new
        self._text_places = torch.arange(sizes.num_tokens, device=model.device)
        self._audio_places = torch.arange(sizes.num_states, device=model.device)
        self._text_mask: Tensor | None = None
        self._states_mask: Tensor | None = None

    def __call__(self) -> tuple[Tensor, Tensor | None]:
        self._places = self._buffers.place + self._new
        real = self._text_places[None, :] >= self._padding[:, None]
        upto = self._text_places[None, :] <= self._places[:, None]
        self._text_mask = (real[:, None] & upto[None])[:, None]
        self._states_mask = (self._audio_places < self._buffers.num_states)[None, None, None]
        last = self._model.shape.num_text_positions - 1
        positions = (self._places[None, :] - self._padding[:, None]).clamp(0, last)
        hidden, scores = self._model.decode(self._tokens, positions, self, attention=self._attention)
        return self._model.logits(hidden), scores

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        own_keys, own_values = self._text[layer, 0], self._text[layer, 1]
        own_keys.index_copy_(2, self._places, keys)
        own_values.index_copy_(2, self._places, values)
        return own_keys, own_values

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=self._text_mask)

    def audio(self, layer: int) -> tuple[Tensor, Tensor]:
        return self._audio[layer, 0], self._audio[layer, 1]

    def audio_mask(self) -> Tensor | None:
        return self._states_mask


class StaticRunner:
    """`Runner` over the arena. Prompts are read eagerly; an item keeps its place in the buffers, with
    finished ones beside it, until so few are left that a smaller size holds them."""

    def __init__(
        self,
        arena: GraphArena,
        audio: Tensor,
        num_padding: Sequence[int],
        max_tokens: int,
        *,
        beam_size: int,
        attention: bool,
    ) -> None:
        self._arena = arena
        self._audio: Tensor | None = audio
        self._padding = np.array(num_padding, dtype=np.int64)
        self._max_tokens = max_tokens
        self._num_states = audio.shape[4]
        self._attention = attention
        self._beam_size = beam_size
        self._num_read = 0
        self._rows: IntArray = np.arange(len(num_padding)) * beam_size
        self._sizes = self._sizes_of(len(num_padding))

    def prefill(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        assert self._audio is not None
        num_items, num_read = tokens.shape
        eager = EagerRunner(
            self._arena.model, self._audio, list(self._padding), num_read, attention=self._attention
        )
        result = eager.prefill(tokens)
        held = self._arena.reserve(self._sizes)
        held.text[:, :, self._on_device(self._rows), :, :num_read] = eager.text
        held.audio[:, :, :num_items, :, : self._num_states] = self._audio
        held.padding[self._on_device(self._rows)] = self._on_device(self._padding)
        held.num_states.fill_(self._num_states)
        self._audio = None
        self._num_read = num_read
        return result

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        held = self._arena.reserve(self._sizes)
        rows, num_new = self._on_device(self._rows), tokens.shape[1]
        # Behind the new tokens lie some of before, up to what the graph reads: nothing sees them.
        held.tokens[rows, :num_new] = tokens
        held.place.fill_(self._num_read)
        bucket = next(bucket for bucket in _NEW_BUCKETS if bucket >= num_new)
        logits, scores = self._arena.step(self._sizes._replace(num_new=bucket))()
        self._num_read += num_new
        if scores is not None:
            scores = scores[rows][:, :, :num_new, : self._num_states]
        return logits[rows, :num_new], scores

    def select(self, rows: IntArray) -> None:
        items = self._rows[rows] // self._beam_size
        slots = items[np.sort(np.unique(items, return_index=True)[1])]
        num_beams = len(rows) // len(slots)
        smaller = self._sizes_of(len(slots))
        self._padding = self._padding[rows]
        places = np.arange(len(slots)) if smaller.num_items < self._sizes.num_items else slots
        target = (places[:, None] * self._beam_size + np.arange(num_beams)).reshape(-1)
        self._move(self._rows[rows], target)
        held = self._arena.reserve(self._sizes)
        if smaller.num_items < self._sizes.num_items:
            held.audio[:, :, : len(slots)] = held.audio[:, :, self._on_device(slots)]
            self._sizes = smaller
        self._rows = target

    def drop_last(self, num_tokens: Sequence[int]) -> None:
        held = self._arena.reserve(self._sizes)
        padding, self._num_read = aligned_right(self._padding, self._num_read, num_tokens)
        for row, old, new in zip(self._rows, self._padding, padding, strict=True):
            move_row(held.text[:, :, row], old, new, self._num_read)
        held.padding[self._on_device(self._rows)] = self._on_device(padding)
        self._padding = padding

    def _move(self, source: IntArray, target: IntArray) -> None:
        """Copy rows of text within the buffers."""
        if np.array_equal(source, target):
            return
        held = self._arena.reserve(self._sizes)
        from_rows, to_rows = self._on_device(source), self._on_device(target)
        held.text[:, :, to_rows, :, : self._num_read] = held.text[:, :, from_rows, :, : self._num_read]
        held.padding[to_rows] = held.padding[from_rows]

    def _sizes_of(self, num_items: int) -> Sizes:
        return round_up(
            num_items, self._beam_size, self._max_tokens, self._num_states, attention=self._attention
        )

    def _on_device(self, rows: IntArray) -> Tensor:
        return torch.from_numpy(rows).to(self._arena.model.device)
