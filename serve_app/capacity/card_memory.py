"""How much GPU memory models and batches need, and which batch fits into a replica's share of a card.

Computed from shapes, not measured on a card (`python -m benchmarks.gpu` measures). What is certain are the
weights; a share that cannot hold them is refused, anything else is warned of and made smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.core.errors import ModelUnavailable
from serve_app.models.footprint import MAX_STATES, MAX_TEXT_POSITIONS, Architecture, value_bytes

HEAD_WIDTH = 64
"""Of every Whisper model: as many heads as its width has of it."""

CONTEXT_BYTES = 450_000_000
"""CUDA's context and the kernels' code in a process, before anything of ours."""

WORKER_BYTES = 40_000_000
"""A worker thread's handles and their workspaces (cuBLAS, cuDNN)."""

_ACTIVATIONS_PER_STATE = 12
"""Hidden vectors of one state that an encoder layer has at once: residual, normed, queries, keys, values,
attended, and the widened ones (four) with what they become."""

_LOGIT_BYTES = 8
_ITEM_MARGIN = 1.15
"""On a CPU in float32 batches of four windows took 85 MB an item with tiny and 95 with base, where the sum
without it says 83 and 111: allocators round up."""

_MB = 1e6


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """One loaded model: its weights, and one item of a batch at its widest."""

    name: str
    compute_type: str
    weights_bytes: int
    item_bytes: int

    @classmethod
    def of_shape(
        cls,
        name: str,
        shape: Architecture,
        compute_type: str,
        *,
        beam_size: int = 1,
        fused_attention: bool = False,
    ) -> ModelNeed:
        """Computed from the model's shape; `fused_attention` as in `item_bytes`."""
        item = item_bytes(shape, compute_type, beam_size=beam_size, fused_attention=fused_attention)
        return cls(name, compute_type, shape.weights_bytes(compute_type), item)


@dataclass(frozen=True, slots=True)
class Share:
    """A replica's part of a card of `card_bytes`; `fraction` over 0, at most 1."""

    card_bytes: int
    fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1 or self.card_bytes <= 0:
            raise ValueError(f"a share of {self.fraction} of {self.card_bytes} bytes is none")

    @property
    def bytes(self) -> int:
        return int(self.card_bytes * self.fraction)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a replica may do in its share: `max_batch`, `free_bytes` beside models and batches, and what a
    person should know (`warnings`)."""

    max_batch: int
    free_bytes: int
    warnings: tuple[str, ...] = ()


def item_bytes(
    shape: Architecture, compute_type: str, *, beam_size: int = 1, fused_attention: bool = False
) -> int:
    """One item of a batch with a full window of 30 s: the larger of encoding and decoding, and its states.

    `fused_attention`: the engine never holds the encoder's `(heads, 1500, 1500)` scores (torch; CTranslate2
    does hold them).
    """
    value = value_bytes(compute_type)
    states = MAX_STATES * shape.width * value
    scores = 0 if fused_attention else shape.width // HEAD_WIDTH * MAX_STATES**2 * value
    encoding = scores + _ACTIVATIONS_PER_STATE * states
    audio_keys = 2 * shape.num_decoder_layers * states
    text_keys = 2 * shape.num_decoder_layers * MAX_TEXT_POSITIONS * shape.width * value * beam_size
    decoding = audio_keys + text_keys + _LOGIT_BYTES * shape.vocabulary_size * beam_size
    return round(_ITEM_MARGIN * (states + max(encoding, decoding)))


def fixed_bytes(models: Sequence[ModelNeed], num_workers: int) -> int:
    """What a process holds before its first batch; each model has workers of its own."""
    workers = num_workers * len(models) * WORKER_BYTES
    return CONTEXT_BYTES + workers + sum(model.weights_bytes for model in models)


def largest_batch(budget_bytes: int, models: Sequence[ModelNeed], *, num_workers: int, max_batch: int) -> int:
    """Items in each of `num_workers` batches at once, up to `max_batch`; 0 where not even one fits."""
    item = max((model.item_bytes for model in models), default=0)
    free = budget_bytes - fixed_bytes(models, num_workers)
    if free < 0 or item == 0:
        return 0 if free < 0 else max_batch
    return min(max_batch, free // (item * num_workers))


def plan_memory(share: Share, models: Sequence[ModelNeed], *, num_workers: int, max_batch: int) -> MemoryPlan:
    """The batch that a share holds. Raises `ModelUnavailable` where it cannot hold the weights themselves."""
    weights = sum(model.weights_bytes for model in models)
    if weights + CONTEXT_BYTES > share.bytes:
        raise ModelUnavailable(_refusal(share, models, weights + CONTEXT_BYTES))
    fits = largest_batch(share.bytes, models, num_workers=num_workers, max_batch=max_batch)
    item = max((model.item_bytes for model in models), default=0)
    batch = max(1, fits)
    needed = fixed_bytes(models, num_workers) + num_workers * batch * item
    warnings: list[str] = []
    if fits < 1:
        warnings.append(
            f"about {needed / _MB:.0f} MB are needed for {_names(models)} and a batch of one in each of "
            f"{num_workers} workers, {_described(share)}: expect decodes that run out of memory"
        )
    elif fits < max_batch:
        warnings.append(
            f"batches hold {batch} instead of {max_batch} items, so that {_names(models)} fit: "
            f"{_described(share)}"
        )
    return MemoryPlan(batch, max(0, share.bytes - needed), tuple(warnings))


def _refusal(share: Share, models: Sequence[ModelNeed], needed: int) -> str:
    fraction = math.ceil(100 * needed / share.card_bytes) / 100
    way_out = (
        f"give it at least {fraction:.2f} of the card (num_gpus), a smaller model, or int8_float16"
        if fraction <= 1
        else "take a smaller model, or int8_float16"
    )
    return (
        f"at least {needed / _MB:.0f} MB of GPU memory are needed for {_names(models)}, {_described(share)}: "
        f"{way_out}"
    )


def _names(models: Sequence[ModelNeed]) -> str:
    return " and ".join(f"{model.name} ({model.compute_type})" for model in models)


def _described(share: Share) -> str:
    return (
        f"this replica's share of {share.fraction:.2f} of a card of {share.card_bytes / _MB:.0f} MB "
        f"is {share.bytes / _MB:.0f} MB"
    )
