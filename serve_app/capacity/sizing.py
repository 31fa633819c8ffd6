"""From the cards of a machine to models, precision, batches and replicas: what `sotto serve` starts without
being told. Pure.

Every card is cut into equal slots, each for a replica of interims or of finals: with equal ones any order in
which Ray places them comes out. What a slot holds decides the models: the best finals that fit with a good
batch, the best interims. What a person set is kept, and said where it does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from serve_app.capacity.card_memory import ModelNeed, largest_batch
from serve_app.capacity.machine import Gpu
from serve_app.models.registry import find_spec

MANY_SLOTS_FROM_BYTES = 20 * 1024**3
"""Cards from here on take four slots, two to start with and two to grow or upgrade into; smaller ones two."""

NUM_WORKERS = 2
"""Of a replica on a card: one prepares audio and words while the other computes."""

GOOD_BATCH = 4
"""A model with smaller batches than this is passed over for a smaller one."""

_USABLE = 0.95
_HALF_PRECISION_FROM = (7, 0)
_BFLOAT16_FROM = (8, 0)
_INT8_FROM = (6, 1)
_FINALS = ("large-v3-turbo", "medium", "small", "base", "tiny")
_TRANSLATING_FINALS = ("large-v3", "medium", "small", "base", "tiny")
_INTERIMS = ("small", "base", "tiny")
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person set (None: nothing), and what the machine is for.

    `can_have`: whether a model is here or may be fetched. `float_only`: the torch engine, without int8.
    """

    interim_model: str | None = None
    final_model: str | None = None
    interim_compute: str | None = None
    final_compute: str | None = None
    num_workers: int | None = None
    max_batch: int | None = None
    beam_size: int = 1
    translates: bool = False
    float_only: bool = False
    can_have: Callable[[str], bool] = lambda name: True


class RolePlan(NamedTuple):
    """`min_replicas` start, `max_replicas` fit."""

    model: str
    compute_type: str
    min_replicas: int
    max_replicas: int


@dataclass(frozen=True, slots=True)
class Sizing:
    """What to start. `gpu_fraction`: of a card, for each replica of either role; `reasons` for a person."""

    interim: RolePlan
    final: RolePlan
    gpu_fraction: float
    num_workers: int
    max_batch: int
    reasons: tuple[str, ...]


class _Slot(NamedTuple):
    """A slot's share of a card in whole hundredths, its bytes, how many a card has, and what the cards can
    compute in, the best first."""

    fraction: float
    bytes: int
    per_card: int
    compute_types: tuple[str, ...]


class _Choice(NamedTuple):
    model: str
    compute_type: str
    batch: int


def size_for_cards(
    cards: Sequence[Gpu], wanted: Wanted | None = None, *, most_batch: int = 8
) -> Sizing | None:
    """The plan for these cards, all of them treated as the smallest; None where there is none, or none that
    holds the smallest models.

    `most_batch`: the largest batch that is asked for where nothing is set.
    """
    wanted = wanted or Wanted()
    if not cards:
        return None
    slot = _slot(cards, wanted)
    num_workers = wanted.num_workers or NUM_WORKERS
    finals = _TRANSLATING_FINALS if wanted.translates else _FINALS
    most = wanted.max_batch or most_batch
    final = _choose(slot, wanted, finals, wanted.final_model, wanted.final_compute, num_workers, most)
    interim = _choose(
        slot, wanted, _INTERIMS, wanted.interim_model, wanted.interim_compute, num_workers, most
    )
    if final is None or interim is None:
        return None
    slots = slot.per_card * len(cards)
    most_replicas = slots // 2
    batch = wanted.max_batch or max(1, min(final.batch, interim.batch))
    return Sizing(
        interim=RolePlan(interim.model, interim.compute_type, len(cards), most_replicas),
        final=RolePlan(final.model, final.compute_type, len(cards), most_replicas),
        gpu_fraction=slot.fraction,
        num_workers=num_workers,
        max_batch=batch,
        reasons=tuple(_reasons(cards, slot, final, interim, batch, wanted)),
    )


def _slot(cards: Sequence[Gpu], wanted: Wanted) -> _Slot:
    """The smallest card's share, of what is free on the fullest."""
    total = min(card.memory_total_bytes for card in cards)
    free = min(card.memory_free_bytes / card.memory_total_bytes for card in cards) * total
    per_card = 4 if total >= MANY_SLOTS_FROM_BYTES else 2
    fraction = int(100 * min(free, _USABLE * total) / total / per_card) / 100
    return _Slot(fraction, int(fraction * total), per_card, _compute_types(cards, wanted))


def _compute_types(cards: Sequence[Gpu], wanted: Wanted) -> tuple[str, ...]:
    """What all cards compute well in. float16 also where there is bfloat16: Whisper was trained in it, and
    its mantissa is longer."""
    oldest = _oldest(cards)
    if oldest >= _HALF_PRECISION_FROM:
        return ("float16",) if wanted.float_only else ("float16", "int8_float16")
    return ("int8", "float32") if oldest >= _INT8_FROM and not wanted.float_only else ("float32",)


def _oldest(cards: Sequence[Gpu]) -> tuple[int, int]:
    """The lowest compute capability. An unknown generation counts as a new one."""
    return min(card.compute_capability or _BFLOAT16_FROM for card in cards)


def _choose(
    slot: _Slot,
    wanted: Wanted,
    ladder: Sequence[str],
    model: str | None,
    compute_type: str | None,
    num_workers: int,
    most_batch: int,
) -> _Choice | None:
    """The first of the ladder that fits with a good batch, else the first that fits at all; of what a person
    set, the model that was named, of any size."""
    names = (model,) if model else tuple(name for name in ladder if wanted.can_have(name)) or ladder[-1:]
    types = (compute_type,) if compute_type else slot.compute_types
    found = [
        _Choice(name, kind, _batch_of(name, kind, slot, num_workers, most_batch, wanted))
        for name in names
        for kind in types
    ]
    for least in (min(GOOD_BATCH, most_batch), 1):
        fitting = next((choice for choice in found if choice.batch >= least), None)
        if fitting is not None:
            return fitting
    return found[-1] if model else None


def _batch_of(name: str, kind: str, slot: _Slot, num_workers: int, most: int, wanted: Wanted) -> int:
    """Items that fit; a model of unknown size is taken to fit."""
    spec = find_spec(name)
    if spec is None or spec.architecture is None:
        return most
    need = ModelNeed.of_shape(
        name, spec.architecture, kind, beam_size=wanted.beam_size, fused_attention=wanted.float_only
    )
    return largest_batch(slot.bytes, [need], num_workers=num_workers, max_batch=most)


# -- said to a person --------------------------------------------------------------------------------


def _reasons(
    cards: Sequence[Gpu],
    slot: _Slot,
    final: _Choice,
    interim: _Choice,
    batch: int,
    wanted: Wanted,
) -> list[str]:
    names = ", ".join(f"{card.name} ({card.memory_total_bytes / _GB:.1f} GB)" for card in cards)
    half = _oldest(cards) >= _BFLOAT16_FROM
    lines = [
        f"{len(cards)} GPU{'s' if len(cards) > 1 else ''}: {names}; {'' if half else 'no '}bfloat16; "
        f"{slot.per_card} slots of {slot.bytes / _GB:.1f} GB on each",
        f"finals {final.model} in {final.compute_type}, interims {interim.model} in {interim.compute_type}, "
        f"batches up to {batch}",
    ]
    for choice, role in ((final, "finals"), (interim, "interims")):
        if choice.batch < 1:
            lines.append(
                f"{choice.model} was set for {role} and may not fit into a slot: set a smaller model, "
                "int8_float16, or your own shares with --config"
            )
    for role, kind in (("interims", wanted.interim_compute), ("finals", wanted.final_compute)):
        if kind is not None and "bfloat16" in kind and not half:
            lines.append(
                f"{kind} was set for {role} and these cards cannot compute in it: another type is used"
            )
    return lines
