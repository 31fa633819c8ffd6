"""What models and batches need of a card, by their shapes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.capacity.card_memory import (
    CONTEXT_BYTES,
    ModelNeed,
    Share,
    fixed_bytes,
    item_bytes,
    largest_batch,
    plan_memory,
)
from serve_app.core.errors import ModelUnavailable
from serve_app.models.footprint import Architecture, Precision
from serve_app.models.registry import MODELS, find_spec

GB = 10**9


def shape_of(name: str) -> Architecture:
    spec = find_spec(name)
    assert spec is not None
    assert spec.architecture is not None
    return spec.architecture


@pytest.mark.parametrize("name", [spec.name for spec in MODELS])
def test_weights_agree_with_the_model_table(name: str) -> None:
    shape = shape_of(name)
    for compute_type, precision in (("float16", Precision.FLOAT16), ("float32", Precision.FLOAT32)):
        assert round(shape.weights_bytes(compute_type) / 1e6) == shape.weights_mb(precision)
    assert round(shape.weights_bytes("int8") / 1e6) == shape.weights_mb(Precision.INT8)
    order = ["int8_float16", "int8_float32", "float16", "float32"]
    sizes = [shape.weights_bytes(compute_type) for compute_type in order]
    assert all(small < large for small, large in pairwise(sizes))
    assert shape.weights_bytes("bfloat16") == shape.weights_bytes("float16")


def test_what_an_item_takes() -> None:
    turbo, large = shape_of("large-v3-turbo"), shape_of("large-v3")
    # The encoder's scores of 20 heads alone are 90 MB; large-v3's keys and values of the audio 246 MB.
    assert 90e6 < item_bytes(turbo, "float16") < 200e6
    assert item_bytes(large, "float16") > 246e6
    assert item_bytes(turbo, "float16", fused_attention=True) < item_bytes(turbo, "float16") - 80e6
    assert item_bytes(large, "float16", beam_size=5) > item_bytes(large, "float16")
    assert item_bytes(turbo, "int8") == pytest.approx(2 * item_bytes(turbo, "int8_float16"), rel=0.01)


@given(
    budget=st.integers(0, 20 * GB),
    weights=st.lists(st.integers(1, 4 * GB), min_size=1, max_size=2),
    item=st.integers(1, GB),
    workers=st.integers(1, 8),
    wanted=st.integers(1, 64),
)
def test_the_largest_batch_fits_and_one_more_does_not(
    budget: int, weights: list[int], item: int, workers: int, wanted: int
) -> None:
    models = [ModelNeed("m", "float16", size, item) for size in weights]
    batch = largest_batch(budget, models, num_workers=workers, max_batch=wanted)
    fixed = fixed_bytes(models, workers)
    assert 0 <= batch <= wanted
    if batch:
        assert fixed + workers * batch * item <= budget
    if batch < wanted:
        assert fixed + workers * (batch + 1) * item > budget


def need(name: str, compute_type: str) -> ModelNeed:
    return ModelNeed.of_shape(name, shape_of(name), compute_type)


def test_a_share_that_holds_everything_says_nothing() -> None:
    plan = plan_memory(Share(141 * GB, 0.35), [need("large-v3-turbo", "float16")], num_workers=2, max_batch=8)
    assert (plan.max_batch, plan.warnings) == (8, ())
    assert plan.free_bytes > 40 * GB


def test_a_share_that_holds_smaller_batches_says_so() -> None:
    share = Share(6 * GB, 0.5)
    plan = plan_memory(share, [need("large-v3-turbo", "float16")], num_workers=1, max_batch=8)
    assert 1 < plan.max_batch < 8
    (warning,) = plan.warnings
    assert f"{plan.max_batch} instead of 8" in warning
    assert "0.50 of a card of 6000 MB is 3000 MB" in warning


def test_a_share_without_room_for_a_batch_warns_and_one_without_room_for_the_weights_is_refused() -> None:
    turbo = need("large-v3-turbo", "float16")
    tight = Share(turbo.weights_bytes + CONTEXT_BYTES + 1_000_000, 1.0)
    plan = plan_memory(tight, [turbo], num_workers=1, max_batch=8)
    assert plan.max_batch == 1
    assert "run out of memory" in plan.warnings[0]
    with pytest.raises(ModelUnavailable, match=r"at least 0.35 of the card .* int8_float16"):
        plan_memory(Share(6 * GB, 0.2), [turbo], num_workers=1, max_batch=8)
    with pytest.raises(ModelUnavailable, match=r"large-v3 \(float16\).*: take a smaller model"):
        plan_memory(Share(2 * GB, 1.0), [need("large-v3", "float16")], num_workers=1, max_batch=8)


@pytest.mark.parametrize(("card", "fraction"), [(GB, 0.0), (GB, 1.5), (0, 0.5)])
def test_what_is_no_share(card: int, fraction: float) -> None:
    with pytest.raises(ValueError):
        Share(card, fraction)
