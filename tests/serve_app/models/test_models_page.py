"""docs/models.md says what the registry says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.models.footprint import MEASURED, Precision
from serve_app.models.registry import MODELS, ModelSpec

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_every_model_has_its_line(spec: ModelSpec) -> None:
    languages = "English" if spec.english_only else spec.num_languages
    speed = f"{spec.published.relative_speed:g}"
    assert (
        f"| `{spec.name}` | {spec.num_parameters_m} M | {languages} | {speed} | {spec.good_for} |\n" in PAGE
    )


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_every_models_memory_is_there(spec: ModelSpec) -> None:
    assert spec.architecture is not None
    weights = [spec.architecture.weights_mb(kind) for kind in Precision]
    rows = re.findall(r"^\| (`.*?) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) GB \|", PAGE, re.MULTILINE)
    names = {
        name
        if name.startswith(("tiny", "base", "small", "medium", "large", "distil"))
        else f"distil-large{name}": row
        for row in rows
        for name in re.findall(r"`(.*?)`", row[0])
    }
    _, *numbers, card_gb = names[spec.name]
    # Models of one line differ by a vocabulary token or a mel filter.
    assert [int(number) for number in numbers] == pytest.approx(weights, abs=1)
    assert float(card_gb) == spec.architecture.min_vram_gb


@pytest.mark.parametrize(("name", "kind"), list(MEASURED))
def test_what_was_measured_is_there(name: str, kind: Precision) -> None:
    measured = MEASURED[name, kind]
    assert f"| `{name}` | {kind} | {measured.loaded_mb} MB | {measured.decoding_mb} MB |" in PAGE
