"""What is said of a model that is here, and of one that is not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from fakes.huggingface_folder import write_huggingface
from fakes.whisper_folder import write_model
from serve_app.models import ModelFormat, ModelSource, resolve_model
from serve_app.models.describe import describe_model
from serve_app.models.export import export_model
from serve_app.models.places import find_here
from serve_app.models.registry import ModelSpec


def write_hub_cache(hf_home: Path, repo: str, *, converted: bool = True) -> Path:
    """What the hub's client leaves behind."""
    folder = hf_home / "hub" / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    return (write_model if converted else write_huggingface)(folder / "snapshots" / "abc123")


def test_a_model_that_is_not_here(tmp_path: Path, cache: Path) -> None:
    facts = describe_model("openai/whisper-small", cache_dir=cache, hf_home=tmp_path)
    assert facts is not None
    assert (facts.name, facts.source, facts.path, facts.engines) == ("small", None, None, ())
    assert "Systran/faster-whisper-small" in facts.other_names
    assert facts.disk_mb == 483
    assert len(facts.languages) == 99


def test_a_name_that_means_nothing(tmp_path: Path, cache: Path) -> None:
    assert describe_model("smal", cache_dir=cache, hf_home=tmp_path) is None
    assert describe_model("/nowhere/at/all", cache_dir=cache) is None


@pytest.mark.parametrize("name", ["", "a\0b", "../..", "x" * 5_000, "a/b/c/d", "~nobody-by-that-name/x"])
def test_hostile_names(name: str, tmp_path: Path, cache: Path) -> None:
    assert describe_model(name, model_dir=tmp_path, cache_dir=cache, hf_home=tmp_path) is None


def test_places_in_their_order(tmp_path: Path, cache: Path) -> None:
    def source() -> ModelSource | None:
        place = find_here("small", model_dir=tmp_path / "models", cache_dir=cache, hf_home=tmp_path / "hf")
        return place.source if place else None

    assert source() is None
    write_hub_cache(tmp_path / "hf", "openai/whisper-small", converted=False)
    assert source() is ModelSource.HUB
    write_model(cache / "models" / "small")
    assert source() is ModelSource.CACHE
    write_model(tmp_path / "models" / "whisper-small")
    assert source() is ModelSource.FOLDER


def test_the_hubs_cache_in_either_format(tmp_path: Path, cache: Path) -> None:
    plain = write_hub_cache(tmp_path, "openai/whisper-small", converted=False)
    facts = describe_model("small", cache_dir=cache, hf_home=tmp_path)
    assert facts is not None
    assert (facts.path, facts.engines) == (str(plain), ("onnx", "torch", "mlx"))
    converted = write_hub_cache(tmp_path, "Systran/faster-whisper-small")
    facts = describe_model("small", cache_dir=cache, hf_home=tmp_path)
    assert facts is not None
    assert (facts.path, facts.engines) == (str(converted), ("ctranslate2", "onnx", "torch", "mlx"))


def test_packages_before_and_after_they_are_joined(cache: Path, packaged: ModelSpec) -> None:
    before = describe_model("fake-split", cache_dir=cache)
    assert before is not None
    assert before.source is ModelSource.PACKAGE
    assert not cache.exists()
    resolve_model("fake-split", cache_dir=cache)
    after = describe_model("fake-split", cache_dir=cache, verify=True)
    assert after is not None
    assert (after.source, after.path) == (before.source, before.path)
    assert {file.name: file.expected_sha256 for file in before.files} == packaged.sums
    assert {file.name: file.actual_sha256 for file in after.files} == packaged.sums
    assert all(file.matches for file in after.files)


def test_files_that_differ_or_are_missing(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source" / "clinic")
    folder = export_model(resolve_model(str(source)), tmp_path / "out")
    (folder / "tokenizer.json").unlink()
    (folder / "vocabulary.json").write_text('["other", ""]')
    facts = describe_model("clinic", model_dir=tmp_path / "out", verify=True)
    assert facts is not None
    found = {file.name: (file.size_bytes > 0, file.matches) for file in facts.files}
    assert found == {
        "config.json": (True, True),
        "model.bin": (True, True),
        "tokenizer.json": (False, None),
        "vocabulary.json": (True, False),
    }
    assert "tokenizer.json is missing" in facts.problems[0]


def test_sums_are_computed_only_when_asked_for(tmp_path: Path) -> None:
    facts = describe_model(str(write_model(tmp_path / "mine")))
    assert facts is not None
    assert (facts.name, facts.format) == ("mine", ModelFormat.CTRANSLATE2)
    assert [file.actual_sha256 for file in facts.files] == [None] * len(facts.files)
    assert facts.num_parameters is None


def test_it_can_be_written_as_json(cache: Path) -> None:
    facts = describe_model("base", cache_dir=cache)
    assert facts is not None
    data = json.loads(json.dumps(dataclasses.asdict(facts)))
    assert data["memory"]["int8"]["weights_mb"] == 79
    assert data["memory"]["int8"]["measured"]["loaded_mb"] == 123
    assert data["published"]["vram_mb"] == [200, 500]
