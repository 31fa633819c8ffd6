"""Sizes that follow from a shape, against those that were measured and published."""

from __future__ import annotations

import pytest

from serve_app.models import MODELS, find_spec, resolve_model
from serve_app.models.footprint import (
    MEASURED,
    PUBLISHED,
    Architecture,
    Precision,
)


def shape_of(name: str) -> Architecture:
    spec = find_spec(name)
    assert spec is not None
    assert spec.architecture is not None
    return spec.architecture


@pytest.mark.parametrize(("name", "num_parameters"), [("tiny.en", 37_760_256), ("base", 72_593_920)])
def test_parameters_are_those_of_the_checkpoints(name: str, num_parameters: int) -> None:
    assert shape_of(name).num_parameters == num_parameters


def test_figures_are_of_known_models() -> None:
    names = {spec.name for spec in MODELS}
    assert set(PUBLISHED) == names
    assert {name for name, _ in MEASURED} == {"tiny.en", "base"}


@pytest.mark.parametrize("name", [spec.name for spec in MODELS])
def test_weights_grow_with_precision(name: str) -> None:
    small, half, full = (shape_of(name).weights_mb(kind) for kind in Precision)
    assert full == pytest.approx(2 * half, abs=1)
    assert half / 2 < small < half
    assert shape_of(name).min_vram_gb * 1e3 > half


@pytest.mark.parametrize(("name", "kind"), list(MEASURED))
def test_a_process_needs_more_than_the_weights(name: str, kind: Precision) -> None:
    measured = MEASURED[name, kind]
    assert shape_of(name).weights_mb(kind) < measured.loaded_mb < measured.decoding_mb


@pytest.mark.parametrize("name", [name for name, figures in PUBLISHED.items() if figures.disk_mb])
def test_published_disk_sizes_are_those_of_float16_weights(name: str) -> None:
    assert PUBLISHED[name].disk_mb == pytest.approx(shape_of(name).weights_mb(Precision.FLOAT16), rel=0.05)


@pytest.mark.models
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_computed_sizes_are_those_of_the_files(name: str) -> None:
    size_bytes = (resolve_model(name, offline=True).path / "model.bin").stat().st_size
    assert size_bytes / 1e6 == pytest.approx(shape_of(name).weights_mb(Precision.FLOAT16), abs=1)
