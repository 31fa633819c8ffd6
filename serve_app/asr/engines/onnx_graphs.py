"""Whisper as three ONNX graphs: the encoder, the keys and values of its states, and the decoder.

Attention, 8-bit products and GELU are onnxruntime's own operators. The decoder reads several tokens of each
row at once behind keys and values that it gave before, so a prompt, a step and a check of a draft are one
graph. Beams of one item read that item's audio once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from serve_app.asr.engines.onnx_format import MICROSOFT, GraphWriter
from serve_app.asr.engines.weights import WhisperWeights
from serve_app.asr.features import FloatArray

_BLOCK = 128
"""Weights of the decoder that share a scale."""
_EPSILON = 1e-5

Linear = Callable[[GraphWriter, str, FloatArray], str]


def write_encoder(weights: WhisperWeights, data: BinaryIO, data_name: str, *, int8: bool) -> bytes:
    """features `(batch, num_mels, num_frames)` to states `(batch, num_states, width)`."""
    return _Encoder(weights, data, data_name, per_channel if int8 else full).write()


def write_cross(weights: WhisperWeights, data: BinaryIO, data_name: str) -> bytes:
    """states to keys and values for the decoder's layers, `(2 * num_layers, batch, num_heads, num_states,
    head_width)`: a layer's keys, then its values."""
    return _Cross(weights, data, data_name, full).write()


def write_decoder(weights: WhisperWeights, data: BinaryIO, data_name: str, *, int8: bool) -> bytes:
    """New tokens and positions `(rows, new)`, `mask` `(rows, 1, new, past + new)` added to attention scores,
    `places` `(rows, chosen, 1)` of the new tokens whose logits are wanted, `past_<n>` and `cross_<n>` (keys
    at even n, values at odd) to logits `(rows, chosen, vocabulary_size)`, `present_<n>`, and `scores` of the
    alignment heads before the softmax, `(items, num_heads, rows of an item * new, num_states)`."""
    return _Decoder(weights, data, data_name, per_block if int8 else full).write()


# -- products with weights (out, in) --------------------------------------------------------------------


def full(graph: GraphWriter, x: str, weight: FloatArray) -> str:
    return graph.node("MatMul", x, graph.constant(weight.T))


def per_block(graph: GraphWriter, x: str, weight: FloatArray) -> str:
    """8 bits, a scale for each block of a row; activations are quantised by block as well."""
    num_rows, width = weight.shape
    num_blocks = -(-width // _BLOCK)
    padded = np.zeros((num_rows, num_blocks * _BLOCK), dtype=np.float32)
    padded[:, :width] = weight
    blocks = padded.reshape(num_rows, num_blocks, _BLOCK)
    scales = _scales(blocks)
    values = (np.rint(blocks / scales[..., None]).clip(-127, 127) + 128).astype(np.uint8)
    return graph.node(
        "MatMulNBits",
        x,
        graph.constant(values),
        graph.constant(scales),
        domain=MICROSOFT,
        K=width,
        N=num_rows,
        bits=8,
        block_size=_BLOCK,
        accuracy_level=4,
    )


def per_channel(graph: GraphWriter, x: str, weight: FloatArray) -> str:
    """8 bits, a scale for each output; activations share one."""
    scales = _scales(weight)
    values = np.rint(weight / scales[:, None]).clip(-127, 127).astype(np.int8).T
    zeros = np.zeros(len(scales), dtype=np.int8)
    return graph.node(
        "DynamicQuantizeMatMul",
        x,
        graph.constant(values),
        graph.constant(scales),
        graph.constant(zeros),
        domain=MICROSOFT,
    )


def _scales(values: FloatArray) -> FloatArray:
    largest: FloatArray = np.abs(values).max(axis=-1) / 127
    return np.maximum(largest, np.finfo(np.float32).tiny)


# -- graphs ----------------------------------------------------------------------------------------------


class _Builder:
    """What the three have in common."""

    def __init__(self, weights: WhisperWeights, data: BinaryIO, data_name: str, linear: Linear) -> None:
        self.shape = weights.shape
        self.graph = GraphWriter(data, data_name)
        self._tensors: Mapping[str, npt.NDArray[Any]] = weights.tensors
        self._product = linear

    def tensor(self, name: str) -> FloatArray:
        """A copy: what is given are views of a mapped file, of any float type."""
        if name.endswith("k_proj.bias"):
            return np.zeros(self.shape.width, dtype=np.float32)
        return np.array(self._tensors[name], dtype=np.float32)

    def constant(self, name: str) -> str:
        return self.graph.constant(self.tensor(name))

    def linear(self, x: str, *names: str) -> str:
        weight = np.concatenate([self.tensor(f"{name}.weight") for name in names])
        bias = np.concatenate([self.tensor(f"{name}.bias") for name in names])
        return self.graph.node("Add", self._product(self.graph, x, weight), self.graph.constant(bias))

    def norm(self, x: str, name: str, output: tuple[str, ...] = ()) -> str:
        return self.graph.node(
            "LayerNormalization",
            x,
            self.constant(f"{name}.weight"),
            self.constant(f"{name}.bias"),
            outputs=output,
            axis=-1,
            epsilon=_EPSILON,
        )

    def query_key_value(self, x: str, prefix: str) -> list[str]:
        normal = self.norm(x, f"{prefix}.self_attn_layer_norm")
        joined = self.linear(normal, *(f"{prefix}.self_attn.{part}_proj" for part in "qkv"))
        width = self.shape.width
        return self.graph.several(
            "Split", joined, self.graph.ints(width, width, width), num_outputs=3, axis=-1
        )

    def feed_forward(self, x: str, prefix: str) -> str:
        wide = self.linear(self.norm(x, f"{prefix}.final_layer_norm"), f"{prefix}.fc1")
        narrow = self.linear(self.graph.node("Gelu", wide, domain=MICROSOFT), f"{prefix}.fc2")
        return self.graph.node("Add", x, narrow)


class _Encoder(_Builder):
    def write(self) -> bytes:
        graph, shape = self.graph, self.shape
        x = graph.input("features", "float32", ("batch", shape.num_mels, "frames"))
        for name, stride in (("encoder.conv1", 1), ("encoder.conv2", 2)):
            kernel = self.constant(f"{name}.weight"), self.constant(f"{name}.bias")
            x = graph.node("Conv", x, *kernel, pads=(1, 1), strides=(stride,), kernel_shape=(3,))
            x = graph.node("Gelu", x, domain=MICROSOFT)
        x = graph.node("Transpose", x, perm=(0, 2, 1))
        length = graph.node("Shape", x, start=1, end=2)
        first = graph.ints(0)
        positions = self.constant("encoder.embed_positions.weight")
        x = graph.node("Add", x, graph.node("Slice", positions, first, length, first))
        for layer in range(shape.num_encoder_layers):
            prefix = f"encoder.layers.{layer}"
            attended = graph.node(
                "MultiHeadAttention",
                *self.query_key_value(x, prefix),
                domain=MICROSOFT,
                num_heads=shape.num_encoder_heads,
            )
            x = graph.node("Add", x, self.linear(attended, f"{prefix}.self_attn.out_proj"))
            x = self.feed_forward(x, prefix)
        self.norm(x, "encoder.layer_norm", ("states",))
        graph.output("states", "float32", ("batch", "states", shape.width))
        return graph.model()


class _Cross(_Builder):
    def write(self) -> bytes:
        graph, shape = self.graph, self.shape
        states = graph.input("states", "float32", ("batch", "states", shape.width))
        names = [
            f"decoder.layers.{layer}.encoder_attn.{part}_proj"
            for layer in range(shape.num_decoder_layers)
            for part in "kv"
        ]
        heads = shape.num_decoder_heads
        sizes = graph.ints(0, 0, len(names), heads, shape.width // heads)
        apart = graph.node("Reshape", self.linear(states, *names), sizes)
        graph.node("Transpose", apart, outputs=("cross",), perm=(2, 0, 3, 1, 4))
        graph.output("cross", "float32", (len(names), "batch", heads, "states", shape.width // heads))
        return graph.model()


class _Decoder(_Builder):
    def write(self) -> bytes:
        graph, shape = self.graph, self.shape
        tokens = graph.input("tokens", "int64", ("rows", "new"))
        places = graph.input("positions", "int64", ("rows", "new"))
        graph.input("mask", "float32", ("rows", 1, "new", "all"))
        graph.input("places", "int64", ("rows", "chosen", 1))
        embedding = self.constant("decoder.embed_tokens.weight")
        positions = self.constant("decoder.embed_positions.weight")
        x = graph.node(
            "Add", graph.node("Gather", embedding, tokens), graph.node("Gather", positions, places)
        )
        scores = []
        for layer in range(shape.num_decoder_layers):
            prefix = f"decoder.layers.{layer}"
            x = self._self_attention(x, layer)
            queries = self._queries(x, layer)
            attended = graph.node(
                "MultiHeadAttention",
                queries,
                f"cross_{2 * layer}",
                f"cross_{2 * layer + 1}",
                domain=MICROSOFT,
                num_heads=shape.num_decoder_heads,
            )
            attended = graph.node("Reshape", attended, graph.node("Shape", x))
            x = graph.node("Add", x, self.linear(attended, f"{prefix}.encoder_attn.out_proj"))
            heads = sorted(head for of, head in shape.alignment_heads if of == layer)
            if heads:
                scores.append(self._scores(queries, layer, heads))
            x = self.feed_forward(x, prefix)
        x = graph.node("GatherND", self.norm(x, "decoder.layer_norm"), "places", batch_dims=1)
        self._logits(x, embedding)
        graph.node("Concat", *scores, outputs=("scores",), axis=1)
        graph.output("scores", "float32", ("items", len(shape.alignment_heads), "queries", "states"))
        return graph.model()

    def _keys_and_values(self, name: str, layer: int, length: str, rows: str) -> list[str]:
        heads = self.shape.num_decoder_heads
        sizes = (rows, heads, length, self.shape.width // heads)
        return [self.graph.input(f"{name}_{2 * layer + i}", "float32", sizes) for i in range(2)]

    def _self_attention(self, x: str, layer: int) -> str:
        graph, heads = self.graph, self.shape.num_decoder_heads
        past = self._keys_and_values("past", layer, "past", "rows")
        present = [f"present_{2 * layer + i}" for i in range(2)]
        attended = graph.node(
            "MultiHeadAttention",
            *self.query_key_value(x, f"decoder.layers.{layer}"),
            *("", "", "mask"),
            *past,
            outputs=(f"attended_{layer}", *present),
            domain=MICROSOFT,
            num_heads=heads,
        )
        for name in present:
            graph.output(name, "float32", ("rows", heads, "all", self.shape.width // heads))
        out = self.linear(attended, f"decoder.layers.{layer}.self_attn.out_proj")
        return graph.node("Add", x, out)

    def _queries(self, x: str, layer: int) -> str:
        """Of all rows of an item one behind the other, `(items, rows of an item * new, width)`."""
        graph, prefix = self.graph, f"decoder.layers.{layer}.encoder_attn"
        keys, _ = self._keys_and_values("cross", layer, "states", "items")
        queries = self.linear(self.norm(x, f"{prefix}_layer_norm"), f"{prefix}.q_proj")
        num_items = graph.node("Shape", keys, start=0, end=1)
        sizes = graph.node("Concat", num_items, graph.ints(-1, self.shape.width), axis=0)
        return graph.node("Reshape", queries, sizes)

    def _scores(self, queries: str, layer: int, heads: list[int]) -> str:
        graph, num_heads = self.graph, self.shape.num_decoder_heads
        head_width = self.shape.width // num_heads
        chosen = graph.ints(*heads)
        apart = graph.node("Reshape", queries, graph.ints(0, 0, num_heads, head_width))
        of_heads = graph.node("Gather", graph.node("Transpose", apart, perm=(0, 2, 1, 3)), chosen, axis=1)
        keys = graph.node("Gather", f"cross_{2 * layer}", chosen, axis=1)
        products = graph.node("MatMul", of_heads, graph.node("Transpose", keys, perm=(0, 1, 3, 2)))
        return graph.node("Mul", products, graph.constant(np.array(head_width**-0.5, dtype=np.float32)))

    def _logits(self, x: str, embedding: str) -> None:
        graph, shape = self.graph, self.shape
        if self._product is full:
            # The embedding serves both ends.
            rows = graph.node(
                "Gemm", graph.node("Reshape", x, graph.ints(-1, shape.width)), embedding, transB=1
            )
            sizes = graph.node(
                "Concat", graph.node("Shape", x, end=2), graph.ints(shape.vocabulary_size), axis=0
            )
            graph.node("Reshape", rows, sizes, outputs=("logits",))
        else:
            product = self._product(graph, x, self.tensor("decoder.embed_tokens.weight"))
            graph.node("Identity", product, outputs=("logits",))
        graph.output("logits", "float32", ("rows", "chosen", shape.vocabulary_size))
