"""Where a model's files are looked for, in which order, and what is said when there are none."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from structlog.testing import capture_logs

from fakes.huggingface_folder import write_huggingface
from fakes.whisper_folder import write_model
from serve_app.core.errors import ModelUnavailable
from serve_app.models import ModelFormat
from serve_app.models.registry import MODELS, ModelSpec
from serve_app.models.resolve import (
    ModelSource,
    ResolvedModel,
    fallback_for,
    resolve_model,
    resolve_or_fallback,
)


class Hub:
    """Stands in for the hub: notes what it is asked, and answers from a table."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.folders: dict[str, Path] = {}
        self.error: Exception = LocalEntryNotFoundError("nothing here\nsecond line with a request id")

    def snapshot_download(self, repo_id: str, **arguments: Any) -> str:
        self.calls.append({"repo": repo_id, **arguments})
        if repo_id in self.folders:
            return str(self.folders[repo_id])
        raise self.error


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def test_a_path_is_taken_as_given(tmp_path: Path, cache: Path, hub: Hub) -> None:
    folder = write_model(tmp_path / "my-model")
    model = resolve_model(str(folder), cache_dir=cache)
    assert (model.path, model.source, model.name) == (folder, ModelSource.FOLDER, "my-model")
    assert model.supports("pt")
    assert hub.calls == []


def test_a_path_below_the_working_directory(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("models/mine", cache_dir=cache).source is ModelSource.FOLDER
    assert resolve_model("./models/mine", cache_dir=cache).name == "mine"


def test_a_folder_in_the_working_directory_does_not_hide_a_model(
    tmp_path: Path, cache: Path, packaged: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "fake-split")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("fake-split", cache_dir=cache).source is ModelSource.PACKAGE


def test_a_path_that_is_no_model(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "broken")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json is missing.*CTranslate2 folder"):
        resolve_model(str(folder), cache_dir=cache)
    with pytest.raises(ModelUnavailable, match="is not a folder"):
        resolve_model(str(tmp_path / "nothing"), cache_dir=cache)


@pytest.mark.parametrize(
    "folder_name", ["small", "faster-whisper-small", "Systran--faster-whisper-small", "openai--whisper-small"]
)
def test_the_model_folder_comes_first(tmp_path: Path, cache: Path, hub: Hub, folder_name: str) -> None:
    folder = write_model(tmp_path / "models" / folder_name)
    model = resolve_model("openai/whisper-small", model_dir=tmp_path / "models", cache_dir=cache)
    assert (model.path, model.source, model.name) == (folder, ModelSource.FOLDER, "small")
    assert hub.calls == []


def test_a_model_of_ones_own_in_the_model_folder(tmp_path: Path, cache: Path) -> None:
    write_model(tmp_path / "models" / "clinic-de")
    model = resolve_model("clinic-de", model_dir=tmp_path / "models", cache_dir=cache)
    assert model.name == "clinic-de"


def test_the_model_folder_wins_over_packages(tmp_path: Path, cache: Path, packaged: ModelSpec) -> None:
    write_model(tmp_path / "models" / "fake-split")
    model = resolve_model("fake-split", model_dir=tmp_path / "models", cache_dir=cache)
    assert model.source is ModelSource.FOLDER


def test_packages_then_the_cache(cache: Path, hub: Hub, packaged: ModelSpec) -> None:
    first = resolve_model("fake-split", cache_dir=cache)
    second = resolve_model("fake-split", cache_dir=cache)
    assert (first.source, second.source) == (ModelSource.PACKAGE, ModelSource.CACHE)
    assert first.path == second.path == cache / "models" / "fake-split"
    assert hub.calls == []


def test_a_damaged_cache_is_made_again(cache: Path, packaged: ModelSpec) -> None:
    path = resolve_model("fake-split", cache_dir=cache).path
    (path / "model.bin").write_bytes(b"")
    assert resolve_model("fake-split", cache_dir=cache).source is ModelSource.PACKAGE
    assert (path / "model.bin").stat().st_size > 0


def test_the_cache_outlives_its_packages(tmp_path: Path, cache: Path, packaged: ModelSpec) -> None:
    resolve_model("fake-split", cache_dir=cache)
    shutil.rmtree(tmp_path / "site")
    assert resolve_model("fake-split", cache_dir=cache, offline=True).source is ModelSource.CACHE


def test_a_damaged_package_is_named(tmp_path: Path, cache: Path, packaged: ModelSpec) -> None:
    (tmp_path / "site/fake_weights_1/data/model.bin.part1").write_bytes(b"damaged")
    with (
        capture_logs() as logs,
        pytest.raises(ModelUnavailable, match="reinstall fake-weights-1 and fake-weights-2"),
    ):
        resolve_model("fake-split", cache_dir=cache)
    assert [(line["log_level"], line["model"]) for line in logs] == [("warning", "fake-split")]


def test_a_missing_package_is_named(tmp_path: Path, cache: Path, packaged: ModelSpec) -> None:
    (tmp_path / "site/fake_weights_1/data/model.bin.part1").unlink()
    with pytest.raises(ModelUnavailable, match="fake-weights-1 lacks"):
        resolve_model("fake-split", cache_dir=cache)


def test_the_hub_comes_last(tmp_path: Path, cache: Path, hub: Hub) -> None:
    hub.folders["Systran/faster-whisper-small"] = write_model(tmp_path / "snapshot")
    model = resolve_model("small", cache_dir=cache, hf_token="hf_x", hf_home=tmp_path / "hf")
    assert (model.source, model.name) == (ModelSource.HUB, "small")
    (call,) = hub.calls
    assert call["token"] == "hf_x"
    assert call["cache_dir"] == tmp_path / "hf" / "hub"
    assert call["local_files_only"] is False
    assert "model.bin" in call["allow_patterns"]


def test_offline_asks_only_the_hubs_cache(tmp_path: Path, cache: Path, hub: Hub) -> None:
    with pytest.raises(ModelUnavailable, match=r"hub: offline.*STT_OFFLINE=false") as caught:
        resolve_model("small", cache_dir=cache, offline=True)
    assert str(cache / "models" / "small") in str(caught.value)
    assert [(call["repo"], call["local_files_only"]) for call in hub.calls] == [
        ("Systran/faster-whisper-small", True),
        ("openai/whisper-small", True),
    ]
    hub.folders["Systran/faster-whisper-small"] = write_model(tmp_path / "snapshot")
    assert resolve_model("small", cache_dir=cache, offline=True).source is ModelSource.HUB


def test_the_network_is_asked_for_one_format_alone(tmp_path: Path, cache: Path, hub: Hub) -> None:
    hub.folders["openai/whisper-small"] = write_huggingface(tmp_path / "snapshot")
    model = resolve_model("small", cache_dir=cache)
    assert (model.source, model.format) == (ModelSource.HUB, ModelFormat.HUGGINGFACE)
    assert [call["local_files_only"] for call in hub.calls] == [False, True]
    hub.calls.clear()
    resolve_model("small", cache_dir=cache, formats=[ModelFormat.HUGGINGFACE])
    assert [call["local_files_only"] for call in hub.calls] == [True, False]


def test_a_repository_of_ones_own_in_either_format(tmp_path: Path, cache: Path, hub: Hub) -> None:
    hub.folders["someone/tuned"] = write_huggingface(tmp_path / "snapshot")
    model = resolve_model("someone/tuned", cache_dir=cache)
    assert (model.name, model.format) == ("someone/tuned", ModelFormat.HUGGINGFACE)
    assert [call["local_files_only"] for call in hub.calls] == [False]


@pytest.mark.parametrize(
    "error", [OSError("no route"), ValueError("bad repo"), LocalEntryNotFoundError("none")]
)
def test_a_hub_that_fails(cache: Path, hub: Hub, error: Exception) -> None:
    hub.error = error
    with pytest.raises(ModelUnavailable, match=f"hub: Systran/faster-whisper-small: {type(error).__name__}"):
        resolve_model("small", cache_dir=cache)
    assert issubclass(HfHubHTTPError, OSError)


def test_hub_errors_are_cut_to_a_line(cache: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        resolve_model("small", cache_dir=cache)
    assert "second line" not in str(caught.value)


def test_a_snapshot_in_another_format_is_not_used(tmp_path: Path, cache: Path, hub: Hub) -> None:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    hub.folders["someone/whisper-clinic"] = folder
    with pytest.raises(ModelUnavailable, match=r"model\.bin is missing"):
        resolve_model("someone/whisper-clinic", cache_dir=cache)


def test_an_unknown_name_lists_the_known_ones(cache: Path, hub: Hub) -> None:
    with pytest.raises(ModelUnavailable, match=r"Known names: tiny, tiny\.en"):
        resolve_model("bsae", cache_dir=cache)
    assert hub.calls == []


@pytest.mark.parametrize(
    "name",
    [
        "x" * 5_000,
        "/" + "x" * 5_000,
        "a/" + "x" * 5_000,
        "/a\0b",
        "",
        "a/b/c",
        "a/../b",
        "..",
        "a b",
        "a\0b",
        "https://x/y",
        "a..b",
    ],
)
def test_names_that_could_leave_the_folder(name: str, tmp_path: Path, cache: Path, hub: Hub) -> None:
    with pytest.raises(ModelUnavailable):
        resolve_model(name, model_dir=tmp_path, cache_dir=cache)
    assert hub.calls == []


def test_a_folder_that_is_not_the_model_it_is_named(tmp_path: Path, cache: Path) -> None:
    write_model(tmp_path / "models" / "small", multilingual=False)
    write_model(tmp_path / "models" / "large-v3")
    with pytest.raises(ModelUnavailable, match="its vocabulary is English-only"):
        resolve_model("small", model_dir=tmp_path / "models", cache_dir=cache)
    with pytest.raises(ModelUnavailable, match="expect 80 mels, large-v3's 128"):
        resolve_model("large-v3", model_dir=tmp_path / "models", cache_dir=cache)


def test_what_a_model_can_be_asked_for(tmp_path: Path, cache: Path) -> None:
    models = tmp_path / "models"
    write_model(models / "small")
    write_model(models / "small.en", multilingual=False)
    write_model(models / "distil-large-v3", num_mels=128)
    write_model(models / "turbo", num_mels=128)
    found = {
        name: resolve_model(name, model_dir=models, cache_dir=cache)
        for name in ("small", "small.en", "distil-large-v3", "turbo")
    }
    assert [name for name, model in found.items() if model.supports("pt")] == ["small", "turbo"]
    assert [name for name, model in found.items() if model.supports("yue")] == ["turbo"]
    assert [name for name, model in found.items() if model.supports(None)] == ["small", "turbo"]
    assert all(model.supports("en") for model in found.values())
    assert found["distil-large-v3"].multilingual
    assert found["turbo"].num_mels == 128
    assert pickle.loads(pickle.dumps(found["turbo"])) == found["turbo"]


@pytest.mark.parametrize(
    "folder_name",
    [
        "distil-large-v3",
        "faster-distil-whisper-large-v3",
        "distil-whisper--distil-large-v3",
        "models--Systran--faster-distil-whisper-large-v3/snapshots/0123abc",
    ],
)
def test_a_distilled_model_by_its_path_still_knows_english_alone(
    tmp_path: Path, cache: Path, folder_name: str
) -> None:
    """Its vocabulary has the tokens: asked for German it would write English."""
    model = resolve_model(str(write_model(tmp_path / folder_name, num_mels=128)), cache_dir=cache)
    assert model.multilingual
    assert model.languages == ("en",)
    assert not model.supports("de")
    assert not model.supports(None)


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("converted", [True, False])
def test_languages_of_every_model_in_either_format(
    tmp_path: Path, cache: Path, spec: ModelSpec, converted: bool
) -> None:
    folder = tmp_path / "models" / spec.name
    if converted:
        write_model(folder, multilingual=spec.multilingual, num_mels=spec.num_mels)
    else:
        write_huggingface(folder, english=not spec.multilingual, num_mels=spec.num_mels)
    model = resolve_model(spec.name, model_dir=tmp_path / "models", cache_dir=cache, offline=True)
    assert model.supports("en")
    assert model.supports("pt") is not spec.english_only
    assert model.supports(None) is not spec.english_only
    assert model.supports("yue") is (spec.num_languages == 100)
    assert model.languages, "empty would mean: all that the vocabulary has"


def test_languages_of_a_folder_whose_config_does_not_list_them(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    del config["lang_ids"]
    (folder / "config.json").write_text(json.dumps(config))
    tokens = [{"content": "<|en|>"}, {"content": "<|zh|>"}, {"content": "<|nospeech|>"}, 3]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {}, "added_tokens": tokens}))
    assert resolve_model(str(folder), cache_dir=cache).languages == ("en", "zh")


def test_fallbacks_are_packaged_and_never_themselves() -> None:
    packaged = {spec.name for spec in MODELS if spec.packaged_files}
    for spec in MODELS:
        assert fallback_for(spec.name) in packaged - {spec.name}
    assert fallback_for("large-v3") == "base"
    assert fallback_for("distil-large-v3") == "tiny.en"
    assert fallback_for("small.en") == "tiny.en"
    assert fallback_for("openai/whisper-base") == "tiny.en"
    assert fallback_for("tiny.en") == "base"
    assert fallback_for("/some/folder") == "base"


def here(**places: Path) -> Callable[[str], ResolvedModel]:
    return lambda name: resolve_model(name, offline=True, **places)


def test_fallback_warns_and_names_both(cache: Path, packaged: ModelSpec) -> None:
    model, warning = resolve_or_fallback("large-v3", "fake-split", here(cache_dir=cache))
    assert model.name == "fake-split"
    assert warning is not None
    assert warning.startswith("fake-split stands in for large-v3. model large-v3 cannot be had.")


def test_an_english_fallback_says_so(tmp_path: Path, cache: Path) -> None:
    write_model(tmp_path / "models" / "tiny.en", multilingual=False)
    find = here(model_dir=tmp_path / "models", cache_dir=cache)
    _, warning = resolve_or_fallback("large-v3", "tiny.en", find)
    assert warning is not None
    assert "tiny.en knows English only" in warning


def test_no_warning_where_the_model_is_there(cache: Path, packaged: ModelSpec) -> None:
    model, warning = resolve_or_fallback("fake-split", "base", here(cache_dir=cache))
    assert model.name == "fake-split"
    assert warning is None


def test_no_fallback_either(cache: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"large-v3 cannot be had.*In its place small was tried"):
        resolve_or_fallback("large-v3", "small", here(cache_dir=cache))


@pytest.mark.models
def test_real_packages_need_no_network(cache: Path, hub: Hub) -> None:
    tiny = resolve_model("openai/whisper-tiny.en", cache_dir=cache, offline=True)
    base = resolve_model("base", cache_dir=cache, offline=True)
    assert tiny.source is base.source is ModelSource.PACKAGE
    assert (tiny.supports("pt"), base.supports("pt")) == (False, True)
    assert hub.calls == []
