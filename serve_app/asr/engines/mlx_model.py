"""Whisper's encoder and decoder in MLX (Radford et al. 2022, section 2.2).

Made for windows of any length and for batches of prompts of different lengths: a prompt is padded on its
left, its positions begin behind the padding, and nothing attends to the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from serve_app.asr.engines.weights import WhisperWeights
from serve_app.asr.features import FloatArray
from serve_app.models.tensor_files import Tensor

_EPSILON = 1e-5
_SUM_BLOCK = 256


@dataclass(slots=True)
class KeyValues:
    """Keys and values of one attention, `(rows, num_heads, length, head_width)`."""

    keys: mx.array
    values: mx.array

    def append(self, keys: mx.array, values: mx.array) -> None:
        self.keys = mx.concatenate([self.keys, keys], axis=2)
        self.values = mx.concatenate([self.values, values], axis=2)

    def take(self, rows: mx.array) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


@dataclass(slots=True)
class Cache:
    """What a decode keeps from step to step, layer by layer: `cross` of the audio, one row an item, and `own`
    of the text so far, equally many rows of each item together. `num_padding` per row, on its left."""

    cross: list[KeyValues]
    num_padding: mx.array
    own: list[KeyValues] = field(default_factory=list)

    @property
    def length(self) -> int:
        return int(self.own[0].keys.shape[2]) if self.own else 0

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and of the audio the items that they belong to."""
        per_item = len(self.num_padding) // len(self.cross[0].keys)
        items = list(dict.fromkeys(row // per_item for row in rows))
        if items != list(range(len(self.cross[0].keys))):
            for known in self.cross:
                known.take(mx.array(items))
        for known in self.own:
            known.take(mx.array(list(rows)))
        self.num_padding = self.num_padding[mx.array(list(rows))]

    def arrays(self) -> list[mx.array]:
        """All that must be evaluated for the cache to be independent of the steps that made it."""
        return [array for entry in (*self.cross, *self.own) for array in (entry.keys, entry.values)]


class _Attention:
    def __init__(self, tensors: dict[str, mx.array], name: str, num_heads: int) -> None:
        self._num_heads = num_heads
        self._query = tensors[f"{name}.q_proj.weight"], tensors[f"{name}.q_proj.bias"]
        self._key = tensors[f"{name}.k_proj.weight"]
        self._value = tensors[f"{name}.v_proj.weight"], tensors[f"{name}.v_proj.bias"]
        self._out = tensors[f"{name}.out_proj.weight"], tensors[f"{name}.out_proj.bias"]
        self.scale = (self._key.shape[0] // num_heads) ** -0.5

    def key_values(self, inputs: mx.array) -> KeyValues:
        return KeyValues(self._heads(inputs @ self._key), self._heads(_linear(inputs, self._value)))

    def query(self, inputs: mx.array) -> mx.array:
        return self._heads(_linear(inputs, self._query))

    def attend(self, query: mx.array, known: KeyValues, mask: mx.array | None = None) -> mx.array:
        return mx.fast.scaled_dot_product_attention(
            query, known.keys, known.values, scale=self.scale, mask=mask
        )

    def output(self, attended: mx.array) -> mx.array:
        rows, _, length, _ = attended.shape
        return _linear(attended.transpose(0, 2, 1, 3).reshape(rows, length, -1), self._out)

    def _heads(self, inputs: mx.array) -> mx.array:
        """`(rows, length, width)` to `(rows, num_heads, length, head_width)`."""
        rows, length, _ = inputs.shape
        return inputs.reshape(rows, length, self._num_heads, -1).transpose(0, 2, 1, 3)


class _Norm:
    def __init__(self, tensors: dict[str, mx.array], name: str) -> None:
        self._weight, self._bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def __call__(self, inputs: mx.array) -> mx.array:
        return mx.fast.layer_norm(inputs, self._weight, self._bias, _EPSILON)


class _FeedForward:
    def __init__(self, tensors: dict[str, mx.array], name: str) -> None:
        self._norm = _Norm(tensors, f"{name}.final_layer_norm")
        self._first = tensors[f"{name}.fc1.weight"], tensors[f"{name}.fc1.bias"]
        self._second = tensors[f"{name}.fc2.weight"], tensors[f"{name}.fc2.bias"]

    def __call__(self, inputs: mx.array) -> mx.array:
        return inputs + _linear(_gelu(_linear(self._norm(inputs), self._first)), self._second)


class _Encoder:
    def __init__(self, tensors: dict[str, mx.array], num_layers: int, num_heads: int) -> None:
        self._convolutions = [
            (tensors[f"encoder.{name}.weight"], tensors[f"encoder.{name}.bias"])
            for name in ("conv1", "conv2")
        ]
        self._positions = tensors["encoder.embed_positions.weight"]
        self._layers = [
            (
                _Norm(tensors, f"{name}.self_attn_layer_norm"),
                _Attention(tensors, f"{name}.self_attn", num_heads),
                _FeedForward(tensors, name),
            )
            for name in (f"encoder.layers.{i}" for i in range(num_layers))
        ]
        self._norm = _Norm(tensors, "encoder.layer_norm")

    def __call__(self, features: mx.array) -> mx.array:
        hidden = features
        for stride, (weight, bias) in enumerate(self._convolutions, 1):
            hidden = _gelu(mx.conv1d(hidden, weight, stride=stride, padding=1) + bias)
        # As many positions as there are states: a short window begins where a long one does.
        hidden = hidden + self._positions[: hidden.shape[1]]
        for norm, attention, feed_forward in self._layers:
            normed = norm(hidden)
            hidden = hidden + attention.output(
                attention.attend(attention.query(normed), attention.key_values(normed))
            )
            hidden = feed_forward(hidden)
        return self._norm(hidden)


class _DecoderLayer:
    def __init__(self, tensors: dict[str, mx.array], name: str, num_heads: int, heads: list[int]) -> None:
        self._norm = _Norm(tensors, f"{name}.self_attn_layer_norm")
        self._attention = _Attention(tensors, f"{name}.self_attn", num_heads)
        self._cross_norm = _Norm(tensors, f"{name}.encoder_attn_layer_norm")
        self.cross = _Attention(tensors, f"{name}.encoder_attn", num_heads)
        self._feed_forward = _FeedForward(tensors, name)
        self._heads = heads

    def __call__(
        self, hidden: mx.array, own: KeyValues | None, cross: KeyValues, mask: mx.array, *, attention: bool
    ) -> tuple[mx.array, KeyValues, mx.array | None]:
        """The layer's output, its keys and values of the text so far, and, where asked for, its
        alignment heads' scores of the audio, float32 `(rows, num_heads, length, num_states)`."""
        normed = self._norm(hidden)
        known = self._attention.key_values(normed)
        if own is not None:
            own.append(known.keys, known.values)
            known = own
        hidden = hidden + self._attention.output(
            self._attention.attend(self._attention.query(normed), known, mask)
        )
        query = _by_item(self.cross.query(self._cross_norm(hidden)), len(cross.keys))
        scores = None
        if attention and self._heads:
            scores = (query[:, self._heads] * self.cross.scale) @ cross.keys[:, self._heads].swapaxes(2, 3)
            scores = _by_row(scores, len(hidden)).astype(mx.float32)
        hidden = hidden + self.cross.output(_by_row(self.cross.attend(query, cross), len(hidden)))
        return self._feed_forward(hidden), known, scores


class MlxWhisper:
    """One model's layers. MLX evaluates lazily, and an array that is not evaluated yet belongs to the thread
    that made it: what is made of audio is evaluated, and what is made of text is left to its caller."""

    def __init__(self, weights: WhisperWeights, dtype: mx.Dtype) -> None:
        self.shape = shape = weights.shape
        self.dtype = dtype
        tensors = {name: _loaded(name, tensor, dtype) for name, tensor in weights.tensors.items()}
        self._encoder = _Encoder(tensors, shape.num_encoder_layers, shape.num_encoder_heads)
        self._embeddings = tensors["decoder.embed_tokens.weight"]
        self._positions = tensors["decoder.embed_positions.weight"]
        self._layers = [
            _DecoderLayer(
                tensors,
                f"decoder.layers.{i}",
                shape.num_decoder_heads,
                [head for layer, head in shape.alignment_heads if layer == i],
            )
            for i in range(shape.num_decoder_layers)
        ]
        self._norm = _Norm(tensors, "decoder.layer_norm")

    def encode(self, features: FloatArray) -> mx.array:
        """States `(batch, num_frames / 2, width)` of features `(batch, num_mels, num_frames)`."""
        inputs = mx.array(np.ascontiguousarray(features.transpose(0, 2, 1))).astype(self.dtype)
        return _evaluated(self._encoder(inputs))

    def project(self, states: mx.array) -> mx.array:
        """Keys and values `(num_layers, 2, batch, num_heads, num_states, head_width)`."""
        known = [layer.cross.key_values(states) for layer in self._layers]
        return _evaluated(mx.stack([mx.stack([entry.keys, entry.values]) for entry in known]))

    def take(self, states: mx.array, rows: Sequence[int]) -> mx.array:
        return _evaluated(states[mx.array(list(rows), dtype=mx.int32)])

    def join(self, projected: mx.array, silence: mx.array) -> mx.array:
        tail = mx.broadcast_to(silence, (*projected.shape[:-2], *silence.shape[-2:]))
        return _evaluated(mx.concatenate([projected, tail], axis=-2))

    def cache(self, audio: mx.array, num_padding: Sequence[int]) -> Cache:
        """Start to decode, with projected states."""
        cross = [KeyValues(layer[0], layer[1]) for layer in audio]
        return Cache(cross, mx.array(list(num_padding), dtype=mx.int32))

    def decode(
        self, tokens: mx.array, cache: Cache, *, attention: bool = False
    ) -> tuple[mx.array, mx.array | None]:
        """Go on by `tokens`, int `(rows, length)`: the hidden states behind each, `(rows, length, width)`,
        and, where asked for, the scores that all alignment heads give the audio, float32 `(rows, num_heads,
        length, num_states)`, to be softmaxed."""
        before, length = cache.length, tokens.shape[1]
        places = mx.arange(before, before + length)
        positions = mx.maximum(places[None] - cache.num_padding[:, None], 0)
        hidden = self._embeddings[tokens] + self._positions[positions]
        mask = _mask(places, before + length, cache.num_padding)
        attended = []
        for i, layer in enumerate(self._layers):
            own = cache.own[i] if before else None
            hidden, known, scores = layer(hidden, own, cache.cross[i], mask, attention=attention)
            if own is None:
                cache.own.append(known)
            if scores is not None:
                attended.append(scores)
        return self._norm(hidden), mx.concatenate(attended, axis=1) if attended else None

    def logits(self, hidden: mx.array) -> mx.array:
        """Scores of the vocabulary, float32, in place of the last dimension."""
        return (hidden @ self._embeddings.T).astype(mx.float32)


def log_softmax(scores: mx.array) -> mx.array:
    """Log-probabilities float32 of scores `(rows, num_scores)`.

    Summed in blocks: on a CPU MLX adds one value to the next, which over a whole vocabulary costs the fourth
    digit of every probability.
    """
    rows, num_scores = scores.shape
    padding = -num_scores % _SUM_BLOCK
    padded = mx.pad(scores, [(0, 0), (0, padding)], constant_values=-mx.inf)
    sums = mx.logsumexp(padded.reshape(rows, -1, _SUM_BLOCK), axis=-1)
    return scores - mx.logsumexp(sums, axis=-1, keepdims=True)


def _mask(places: mx.array, num_keys: int, num_padding: mx.array) -> mx.array:
    """Who may attend to whom, bool `(rows, 1, length, num_keys)`: none to what comes later nor to padding,
    save padding to itself, since attending to nothing at all gives no number."""
    keys = mx.arange(num_keys)
    earlier = keys[None, :] <= places[:, None]
    real = keys[None, None, :] >= num_padding[:, None, None]
    itself = keys[None, :] == places[:, None]
    return ((earlier[None] & real) | itself[None])[:, None]


def _by_item(query: mx.array, num_items: int) -> mx.array:
    """Rows of one item lie together and see the same audio: its queries one behind the other,
    `(num_items, num_heads, rows of an item * length, head_width)`."""
    rows, num_heads, length, width = query.shape
    if rows == num_items:
        return query
    apart = query.reshape(num_items, rows // num_items, num_heads, length, width)
    return apart.transpose(0, 2, 1, 3, 4).reshape(num_items, num_heads, -1, width)


def _by_row(attended: mx.array, num_rows: int) -> mx.array:
    """The same the other way round."""
    num_items, num_heads, _, width = attended.shape
    if num_rows == num_items:
        return attended
    apart = attended.reshape(num_items, num_heads, num_rows // num_items, -1, width)
    return apart.transpose(0, 2, 1, 3, 4).reshape(num_rows, num_heads, -1, width)


def _evaluated(array: mx.array) -> mx.array:
    mx.eval(array)
    return array


def _linear(inputs: mx.array, weights: tuple[mx.array, mx.array]) -> mx.array:
    return mx.addmm(weights[1], inputs, weights[0])


def _gelu(inputs: mx.array) -> mx.array:
    return inputs * (mx.erf(inputs * 2**-0.5) + 1) * 0.5


def _loaded(name: str, tensor: Tensor, dtype: mx.Dtype) -> mx.array:
    """A tensor laid out as it is used, and evaluated: any thread may be the first to decode."""
    # A view of the mapped file may lie at an odd address, so it is copied first.
    array = mx.array(np.array(tensor)).astype(dtype)
    if array.ndim == 3:
        # MLX convolves (batch, length, channels) with (out, kernel, in).
        array = mx.contiguous(array.transpose(0, 2, 1))
    elif name.endswith(("_proj.weight", ".fc1.weight", ".fc2.weight")):
        array = array.T
    mx.eval(array)
    return array
