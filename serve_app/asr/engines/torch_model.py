"""Whisper in torch: encoder, decoder and vocabulary projection as functions of one set of weights.

Nothing here knows of batches of requests, caches or search. The encoder takes any even number of frames:
positions are cut to the states there are. The encoder's and the decoder's positions are the stored ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from serve_app.asr.engines.weights import WhisperShape, WhisperWeights
from serve_app.asr.features import FloatArray

_FEW_ROWS = 8


class KeyValues(Protocol):
    """Keys and values of a batch: those of the text so far, which grow, and those of the audio."""

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append those of the new tokens, `(num_rows, num_heads, num_new, head_width)`; all there are now."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of new tokens over the text, each to those up to itself."""

    def audio(self, layer: int) -> tuple[Tensor, Tensor]:
        """Of the audio, `(num_items, num_heads, num_states, head_width)`; `num_rows` is a multiple of
        `num_items`, an item's rows lie together."""

    def audio_mask(self) -> Tensor | None:
        """Which states there are, where not all; broadcast to `(num_items, num_heads, rows, num_states)`."""


class _Linear(NamedTuple):
    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class _Norm(NamedTuple):
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias)


class _Convolution(NamedTuple):
    weight: Tensor
    bias: Tensor
    stride: int

    def __call__(self, x: Tensor) -> Tensor:
        return functional.gelu(functional.conv1d(x, self.weight, self.bias, stride=self.stride, padding=1))


class _Block(NamedTuple):
    """One layer. `query_key_value` is fused; the decoder's also has `cross_query` and `cross_out`."""

    attention_norm: _Norm
    query_key_value: _Linear
    attention_out: _Linear
    norm: _Norm
    widen: _Linear
    narrow: _Linear
    cross_norm: _Norm | None = None
    cross_query: _Linear | None = None
    cross_out: _Linear | None = None

    def feed_forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(functional.gelu(self.widen(self.norm(x))))


class TorchWhisper:
    """One model's weights on one device. Stateless: calls may run at the same time."""

    def __init__(self, weights: WhisperWeights, device: torch.device, dtype: torch.dtype) -> None:
        self.shape = shape = weights.shape
        self.device = device
        self.dtype = dtype
        load = _Loader(weights.tensors, device, dtype)
        self._convolutions = [
            _Convolution(load("encoder.conv1.weight"), load("encoder.conv1.bias"), 1),
            _Convolution(load("encoder.conv2.weight"), load("encoder.conv2.bias"), 2),
        ]
        self._audio_positions = load("encoder.embed_positions.weight")
        self._encoder = [load.block(f"encoder.layers.{i}") for i in range(shape.num_encoder_layers)]
        self._encoder_norm = load.norm("encoder.layer_norm")
        self._embedding = load("decoder.embed_tokens.weight")
        self._text_positions = load("decoder.embed_positions.weight")
        self._decoder = [
            load.block(f"decoder.layers.{i}", cross=True) for i in range(shape.num_decoder_layers)
        ]
        self._decoder_norm = load.norm("decoder.layer_norm")
        self._cross = load.cross(shape.num_decoder_layers)
        self._heads = _heads_by_layer(shape, device)

    # -- encoder ---------------------------------------------------------------------------------

    def encode(self, features: FloatArray) -> Tensor:
        """States `(batch, num_frames / 2, width)` of features `(batch, num_mels, num_frames)`."""
        x = torch.from_numpy(np.ascontiguousarray(features)).to(self.device, self.dtype)
        for convolution in self._convolutions:
            x = convolution(x)
        x = x.transpose(1, 2)
        x = x + self._audio_positions[: x.shape[1]]
        for block in self._encoder:
            parts = block.query_key_value(block.attention_norm(x)).chunk(3, dim=-1)
            queries, keys, values = (self._split(part, self.shape.num_encoder_heads) for part in parts)
            attended = functional.scaled_dot_product_attention(queries, keys, values)
            x = x + block.attention_out(_merge(attended))
            x = block.feed_forward(x)
        return self._encoder_norm(x)

    def project(self, states: Tensor) -> Tensor:
        """Keys and values of states `(batch, num_states, width)` for all of the decoder's layers at once:
        `(num_layers, 2, batch, num_heads, num_states, head_width)`."""
        batch, num_states, _ = states.shape
        heads = self.shape.num_decoder_heads
        projected = self._cross(states)
        projected = projected.view(batch, num_states, self.shape.num_decoder_layers, 2, heads, -1)
        return projected.permute(2, 3, 0, 4, 1, 5).contiguous()

    def take(self, states: Tensor, rows: Sequence[int]) -> Tensor:
        return states[torch.tensor(list(rows), dtype=torch.int64, device=self.device)]

    def join(self, projected: Tensor, silence: Tensor) -> Tensor:
        return torch.cat((projected, silence.expand(*projected.shape[:-2], *silence.shape[-2:])), dim=-2)

    # -- decoder ---------------------------------------------------------------------------------

    def decode(
        self, tokens: Tensor, positions: Tensor, cache: KeyValues, *, attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Hidden states `(num_rows, num_new, width)` of new tokens `(num_rows, num_new)` at `positions`.

        With `attention` also how strongly each attends to each state, before the softmax, in the alignment
        heads: float32 `(num_rows, num_alignment_heads, num_new, num_states)`.
        """
        x = functional.embedding(tokens, self._embedding) + self._text_positions[positions]
        heads = self.shape.num_decoder_heads
        scores = []
        for layer, block in enumerate(self._decoder):
            parts = block.query_key_value(block.attention_norm(x)).chunk(3, dim=-1)
            queries, keys, values = (self._split(part, heads) for part in parts)
            keys, values = cache.extend(layer, keys, values)
            x = x + block.attention_out(_merge(cache.attend(queries, keys, values)))
            assert block.cross_norm is not None
            assert block.cross_query is not None
            assert block.cross_out is not None
            queries = self._split(block.cross_query(block.cross_norm(x)), heads)
            x = x + block.cross_out(_merge(self._attend_to_audio(queries, layer, cache)))
            if attention and layer in self._heads:
                scores.append(self._alignment_scores(queries, layer, cache))
            x = block.feed_forward(x)
        return self._decoder_norm(x), torch.cat(scores, dim=1) if scores else None

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 scores `(..., vocabulary_size)` of hidden states `(..., width)`."""
        if hidden.ndim > 2:
            return self.logits(hidden.flatten(0, -2)).view(*hidden.shape[:-1], -1)
        if hidden.device.type == "cpu" and len(hidden) <= _FEW_ROWS:
            # MKL's product with one vector takes nearly twice as long as that with two, and the transposed
            # product of a few half as long; this is half of a decoder's step.
            rows = hidden if len(hidden) > 1 else torch.cat((hidden, hidden))
            return (self._embedding @ rows.t())[:, : len(hidden)].t().float().contiguous()
        return functional.linear(hidden, self._embedding).float()

    def _attend_to_audio(self, queries: Tensor, layer: int, cache: KeyValues) -> Tensor:
        keys, values = cache.audio(layer)
        folded = _fold(queries, len(keys))
        attended = functional.scaled_dot_product_attention(folded, keys, values, attn_mask=cache.audio_mask())
        return _unfold(attended, len(queries))

    def _alignment_scores(self, queries: Tensor, layer: int, cache: KeyValues) -> Tensor:
        chosen = self._heads[layer]
        keys, _ = cache.audio(layer)
        folded = _fold(queries[:, chosen], len(keys))
        scores = folded @ keys[:, chosen].transpose(-1, -2) * queries.shape[-1] ** -0.5
        return _unfold(scores.float(), len(queries))

    def _split(self, x: Tensor, num_heads: int) -> Tensor:
        return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def _fold(queries: Tensor, num_items: int) -> Tensor:
    """`(num_rows, num_heads, num_new, ...)` to `(num_items, num_heads, rows of the item * num_new, ...)`:
    beams of one item read its keys and values once."""
    num_rows, heads, num_new, width = queries.shape
    if num_rows == num_items:
        return queries
    beams = num_rows // num_items
    return queries.view(num_items, beams, heads, num_new, width).transpose(1, 2).flatten(2, 3)


def _unfold(x: Tensor, num_rows: int) -> Tensor:
    num_items, heads, _, width = x.shape
    if num_rows == num_items:
        return x
    beams = num_rows // num_items
    return x.view(num_items, heads, beams, -1, width).transpose(1, 2).flatten(0, 1)


def _heads_by_layer(shape: WhisperShape, device: torch.device) -> Mapping[int, Tensor]:
    by_layer: dict[int, list[int]] = {}
    for layer, head in sorted(shape.alignment_heads):
        by_layer.setdefault(layer, []).append(head)
    return {layer: torch.tensor(heads, device=device) for layer, heads in by_layer.items()}


class _Loader:
    """Copies tensors to the device in the model's type, the same weights fused as they are used."""

    def __init__(self, tensors: Mapping[str, np.ndarray], device: torch.device, dtype: torch.dtype) -> None:
        self._tensors = tensors
        self._device = device
        self._dtype = dtype

    def __call__(self, *names: str) -> Tensor:
        """One tensor, or several one behind the other; a bias that is missing is zeros."""
        arrays = [np.asarray(self._array(name), dtype=np.float32) for name in names]
        # A copy: what is given are read-only views of a mapped file.
        return torch.from_numpy(np.concatenate(arrays)).to(self._device, self._dtype)

    def _array(self, name: str) -> np.ndarray:
        if name.endswith("k_proj.bias"):
            return np.zeros(len(self._tensors[name.replace("bias", "weight")]), dtype=np.float32)
        return self._tensors[name]

    def linear(self, *names: str) -> _Linear:
        weight = self(*(f"{name}.weight" for name in names))
        if self._device.type == "cpu":
            # Stored by columns: MKL multiplies one row by that in half the time.
            weight = weight.t().contiguous().t()
        return _Linear(weight, self(*(f"{name}.bias" for name in names)))

    def norm(self, name: str) -> _Norm:
        return _Norm(self(f"{name}.weight"), self(f"{name}.bias"))

    def cross(self, num_layers: int) -> _Linear:
        return self.linear(
            *(
                f"decoder.layers.{layer}.encoder_attn.{part}"
                for layer in range(num_layers)
                for part in ("k_proj", "v_proj")
            )
        )

    def block(self, prefix: str, *, cross: bool = False) -> _Block:
        block = _Block(
            attention_norm=self.norm(f"{prefix}.self_attn_layer_norm"),
            query_key_value=self.linear(*(f"{prefix}.self_attn.{part}_proj" for part in "qkv")),
            attention_out=self.linear(f"{prefix}.self_attn.out_proj"),
            norm=self.norm(f"{prefix}.final_layer_norm"),
            widen=self.linear(f"{prefix}.fc1"),
            narrow=self.linear(f"{prefix}.fc2"),
        )
        if not cross:
            return block
        return block._replace(
            cross_norm=self.norm(f"{prefix}.encoder_attn_layer_norm"),
            cross_query=self.linear(f"{prefix}.encoder_attn.q_proj"),
            cross_out=self.linear(f"{prefix}.encoder_attn.out_proj"),
        )
