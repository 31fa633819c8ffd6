"""Cards to models, precision, batches and replicas: small cards, old ones, many, and what a person set."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.nvml import GIB, FakeCard, FakeNvml, h200, rtx_2060, rtx_3060, turing_12gb
from serve_app.capacity.card_memory import ModelNeed, Share, fixed_bytes
from serve_app.capacity.machine import Gpu, read_gpus
from serve_app.capacity.sizing import (
    GOOD_BATCH,
    RolePlan,
    Sizing,
    Wanted,
    size_for_cards,
)
from serve_app.models.registry import find_spec


def cards(*given: FakeCard) -> tuple[Gpu, ...]:
    return read_gpus(FakeNvml(given))


def sized(given: Sequence[FakeCard], wanted: Wanted | None = None) -> Sizing:
    sizing = size_for_cards(cards(*given), wanted)
    assert sizing is not None
    return sizing


def test_two_6_gb_cards_without_bfloat16() -> None:
    sizing = sized([rtx_2060(), rtx_2060()])
    assert sizing.final == RolePlan("large-v3-turbo", "int8_float16", 2, 2)
    assert sizing.interim == RolePlan("small", "float16", 2, 2)
    assert 0.4 < sizing.gpu_fraction <= 0.5
    assert sizing.max_batch >= GOOD_BATCH
    assert sizing.reasons == (
        "2 GPUs: NVIDIA GeForce RTX 2060 (6.4 GB), NVIDIA GeForce RTX 2060 (6.4 GB); no bfloat16; "
        "2 slots of 3.0 GB on each",
        "finals large-v3-turbo in int8_float16, interims small in float16, batches up to 5",
    )


@pytest.mark.parametrize(("card", "said"), [(turing_12gb(), "no bfloat16"), (rtx_3060(), "; bfloat16")])
def test_two_12_gb_cards_with_and_without_bfloat16(card: FakeCard, said: str) -> None:
    sizing = sized([card, card])
    assert sizing.final == RolePlan("large-v3-turbo", "float16", 2, 2)
    assert sizing.interim == RolePlan("small", "float16", 2, 2)
    assert sizing.max_batch == 8
    assert said in sizing.reasons[0]


def test_a_large_card_keeps_room_to_grow() -> None:
    sizing = sized([h200()])
    assert sizing.final == RolePlan("large-v3-turbo", "float16", 1, 2)
    assert sizing.interim == RolePlan("small", "float16", 1, 2)
    assert sizing.gpu_fraction * 4 <= 1


def test_cards_of_two_sizes_are_taken_for_the_smaller() -> None:
    mixed, small = sized([rtx_2060(), rtx_3060()]), sized([rtx_2060(), rtx_2060()])
    assert (mixed.final, mixed.interim, mixed.gpu_fraction) == (
        small.final,
        small.interim,
        small.gpu_fraction,
    )


@pytest.mark.parametrize(
    ("capability", "compute_types"),
    [
        ((9, 0), {"float16", "int8_float16"}),
        ((7, 5), {"float16", "int8_float16"}),
        ((6, 1), {"int8"}),
        ((6, 0), {"float32"}),
        ((5, 2), {"float32"}),
    ],
)
def test_old_generations_compute_in_what_they_can(
    capability: tuple[int, int], compute_types: set[str]
) -> None:
    sizing = sized([FakeCard("old", 6 * GIB, capability)])
    assert {sizing.final.compute_type, sizing.interim.compute_type} <= compute_types


def test_memory_that_others_hold_counts() -> None:
    free, taken = sized([rtx_2060()]), sized([rtx_2060(memory_used_bytes=3 * GIB)])
    assert taken.gpu_fraction < free.gpu_fraction / 1.5
    assert taken.final.model in ("small", "base")


@pytest.mark.parametrize(
    "given", [[], [FakeCard("tiny", GIB, (7, 5))], [rtx_2060(memory_used_bytes=6 * GIB)]]
)
def test_no_card_and_no_room(given: list[FakeCard]) -> None:
    assert size_for_cards(cards(*given)) is None


# -- what a person set --------------------------------------------------------------------------------


def test_what_was_set_is_kept() -> None:
    wanted = Wanted(
        interim_model="tiny.en",
        final_model="medium",
        interim_compute="float16",
        final_compute="int8_float16",
        num_workers=1,
        max_batch=3,
    )
    sizing = sized([rtx_3060()], wanted)
    assert sizing.interim[:2] == ("tiny.en", "float16")
    assert sizing.final[:2] == ("medium", "int8_float16")
    assert (sizing.num_workers, sizing.max_batch) == (1, 3)


def test_a_model_that_does_not_fit_is_kept_and_said() -> None:
    sizing = sized([rtx_2060()], Wanted(final_model="large-v3", final_compute="float16"))
    assert sizing.final[:2] == ("large-v3", "float16")
    assert sizing.interim.model == "small"
    assert any("large-v3 was set for finals and may not fit" in line for line in sizing.reasons)
    assert not any("may not fit" in line for line in sized([rtx_2060()]).reasons)


def test_the_precision_is_chosen_so_that_a_model_that_was_set_fits() -> None:
    assert sized([rtx_2060()], Wanted(final_model="large-v3-turbo")).final.compute_type == "int8_float16"
    assert sized([rtx_3060()], Wanted(final_model="large-v3-turbo")).final.compute_type == "float16"


def test_an_unknown_model_is_taken_to_fit() -> None:
    assert sized([rtx_2060()], Wanted(final_model="my/own")).final[:2] == ("my/own", "float16")


def test_bfloat16_on_a_card_without_it_is_said() -> None:
    wanted = Wanted(final_compute="bfloat16")
    assert any("bfloat16 was set for finals" in line for line in sized([rtx_2060()], wanted).reasons)
    assert not any("was set" in line for line in sized([rtx_3060()], wanted).reasons)
    assert sized([rtx_3060()], wanted).final.compute_type == "bfloat16"


def test_only_models_that_can_be_had() -> None:
    sizing = sized([h200()], Wanted(can_have=lambda name: name == "base"))
    assert (sizing.final.model, sizing.interim.model) == ("base", "base")


def test_translation_takes_a_model_that_can() -> None:
    assert sized([h200()], Wanted(translates=True)).final.model == "large-v3"
    small = sized([rtx_2060()], Wanted(translates=True)).final.model
    spec = find_spec(small)
    assert spec is not None
    assert spec.translates


def test_torch_has_no_int8() -> None:
    sizing = sized([rtx_2060()], Wanted(float_only=True))
    assert (sizing.final.compute_type, sizing.interim.compute_type) == ("float16", "float16")


# -- whatever the cards -------------------------------------------------------------------------------


@given(
    sizes_gib=st.lists(st.integers(2, 144), min_size=1, max_size=8),
    capability=st.sampled_from([(5, 2), (6, 1), (7, 5), (8, 6), (9, 0)]),
    used_mib=st.integers(0, 4_000),
    torch=st.booleans(),
)
def test_slots_fit_the_cards_and_models_their_slots(
    sizes_gib: list[int], capability: tuple[int, int], used_mib: int, torch: bool
) -> None:
    given = cards(
        *(FakeCard("c", size * GIB, capability, memory_used_bytes=used_mib * 1024**2) for size in sizes_gib)
    )
    sizing = size_for_cards(given, Wanted(float_only=torch))
    if sizing is None:
        return
    smallest = min(card.memory_total_bytes for card in given)
    per_card = (sizing.interim.max_replicas + sizing.final.max_replicas) // len(given)
    assert per_card * sizing.gpu_fraction <= 1
    assert per_card * sizing.gpu_fraction * smallest <= min(
        smallest, *(card.memory_free_bytes / card.memory_total_bytes * smallest for card in given)
    )
    for role in (sizing.interim, sizing.final):
        assert 1 <= role.min_replicas <= role.max_replicas
        assert "bfloat16" not in role.compute_type
        spec = find_spec(role.model)
        assert spec is not None
        assert spec.architecture is not None
        need = ModelNeed.of_shape(role.model, spec.architecture, role.compute_type, fused_attention=torch)
        batches = sizing.num_workers * sizing.max_batch * need.item_bytes
        # What a replica computes for itself when it starts comes to the same.
        assert fixed_bytes([need], sizing.num_workers) + batches <= Share(smallest, sizing.gpu_fraction).bytes
