"""Whisper in Hugging Face's format: what makes a folder sound, and what of a hostile one is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from fakes.huggingface_folder import config_of, header_of, safetensors, shapes_of, write_huggingface
from fakes.whisper_folder import write_model
from serve_app.core.errors import ModelUnavailable
from serve_app.models import ModelFormat, resolve_model
from serve_app.models.huggingface import is_huggingface
from serve_app.models.verify import check_folder, inspect_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_huggingface(tmp_path / "model")


@pytest.mark.parametrize("sharded", [False, True])
def test_a_sound_folder(tmp_path: Path, sharded: bool) -> None:
    report = inspect_folder(write_huggingface(tmp_path / "model", sharded=sharded))
    assert report.problems == ()
    assert report.format is ModelFormat.HUGGINGFACE
    assert (report.multilingual, report.num_mels, report.num_languages) == (True, 80, 99)


def test_english_and_128_mels(tmp_path: Path) -> None:
    english = inspect_folder(write_huggingface(tmp_path / "english", english=True))
    assert (english.multilingual, english.num_languages) == (False, 1)
    assert inspect_folder(write_huggingface(tmp_path / "large", num_mels=128)).num_mels == 128


def test_model_bin_beside_it_makes_it_a_ctranslate2_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "both")
    (folder / "model.safetensors").write_bytes(b"whatever")
    assert not is_huggingface(folder)
    assert inspect_folder(folder).format is ModelFormat.CTRANSLATE2


def test_an_old_folder_has_it_all_in_its_config(folder: Path) -> None:
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **generation}))
    assert check_folder(folder) == []


def test_languages_by_the_generation_config(folder: Path) -> None:
    file = folder / "generation_config.json"
    generation = json.loads(file.read_text())
    file.write_text(json.dumps({**generation, "lang_to_id": {"<|en|>": 1, "<|zh|>": 2}}))
    assert inspect_folder(folder).num_languages == 2


@pytest.mark.parametrize("key", ["alignment_heads", "suppress_tokens", "begin_suppress_tokens"])
def test_what_can_be_done_without(folder: Path, key: str) -> None:
    file = folder / "generation_config.json"
    generation = json.loads(file.read_text())
    del generation[key]
    file.write_text(json.dumps(generation))
    (problem,) = inspect_folder(folder).problems
    assert key in problem.message
    assert not problem.fatal


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_files_are_fatal(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert any(name in problem and "missing" in problem for problem in inspect_folder(folder).fatal)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b"{" * 10])
def test_damaged_json_is_fatal(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    assert any(name in problem for problem in inspect_folder(folder).fatal)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "bert"),
        ("model_type", None),
        ("model_type", ["whisper"]),
        ("d_model", None),
        ("d_model", -1),
        ("d_model", 10**12),
        ("d_model", True),
        ("d_model", "8"),
        ("encoder_layers", 10**9),
        ("decoder_attention_heads", 3),
        ("vocab_size", 0),
        ("num_mel_bins", 1e30),
    ],
)
def test_a_config_that_gives_no_shape(folder: Path, key: str, value: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config_of(**{key: value})))
    assert any("config.json" in problem for problem in inspect_folder(folder).fatal)


def with_weights(folder: Path, data: bytes) -> str:
    (folder / "model.safetensors").write_bytes(data)
    return " ".join(inspect_folder(folder).fatal)


def test_cut_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for size_bytes in (0, 7, 8, 50, len(whole) - 1):
        assert "model.safetensors cannot be read" in with_weights(folder, whole[:size_bytes])
    assert "not fully covered" in with_weights(folder, whole + b"?")


def test_a_header_that_claims_more_than_there_is(folder: Path) -> None:
    assert "its header claims" in with_weights(folder, struct.pack("<Q", 2**63) + b"{}")


TENSOR = {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {**TENSOR, "dtype": "I8"},
        {**TENSOR, "dtype": ["F16"]},
        {**TENSOR, "shape": "1"},
        {**TENSOR, "shape": [1] * 9},
        {**TENSOR, "shape": [-1, -1]},
        {**TENSOR, "shape": [2**62] * 8},
        {**TENSOR, "shape": [True]},
        {**TENSOR, "data_offsets": [0]},
        {**TENSOR, "data_offsets": [2, 0]},
        {**TENSOR, "data_offsets": [0, 2**62]},
        {**TENSOR, "data_offsets": [0, 1]},
    ],
)
def test_forged_tensors(folder: Path, entry: Any) -> None:
    assert "model.safetensors cannot be read" in with_weights(folder, safetensors({"x": entry}, 2))


@pytest.mark.parametrize("header", [b"[]", b"3", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_headers_that_are_no_object(folder: Path, header: bytes) -> None:
    assert "model.safetensors cannot be read" in with_weights(folder, safetensors(header, 0))


@pytest.mark.parametrize("name", list(shapes_of(config_of())))
def test_a_tensor_that_is_missing_or_of_another_size(folder: Path, name: str) -> None:
    shapes = shapes_of(config_of())
    others = {other: shape for other, shape in shapes.items() if other != name}
    short = name.removeprefix("model.")
    assert f"{short} is missing" in with_weights(folder, safetensors(*header_of(others)))
    assert f"{short} has the shape (4, 4)" in with_weights(
        folder, safetensors(*header_of({**shapes, name: (4, 4)}))
    )


@pytest.mark.parametrize(
    "weight_map",
    [
        None,
        {},
        [],
        {"a": "../../etc/passwd"},
        {"a": "/etc/passwd.safetensors"},
        {"a": "sub/x.safetensors"},
        {"a": "gone.safetensors"},
        {"a": 3},
        {"a": "x\0.safetensors"},
        {str(index): f"{index}.safetensors" for index in range(1_000)},
    ],
)
def test_an_index_that_names_no_files_of_the_folder(tmp_path: Path, weight_map: Any) -> None:
    folder = write_huggingface(tmp_path / "model", sharded=True)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert any("safetensors" in problem for problem in inspect_folder(folder).fatal)


def test_it_is_found_by_the_same_names(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_huggingface(models / "openai--whisper-small")
    for name in ("small", "openai/whisper-small", "Systran/faster-whisper-small"):
        model = resolve_model(name, model_dir=models, cache_dir=tmp_path / "cache", offline=True)
        assert (model.name, model.format) == ("small", ModelFormat.HUGGINGFACE)
        assert len(model.languages) == 99


def test_a_folder_in_the_wrong_format_is_passed_over(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_huggingface(models / "small")
    wanted = [ModelFormat.CTRANSLATE2]
    with pytest.raises(ModelUnavailable, match="in huggingface format, wanted ctranslate2"):
        resolve_model("small", model_dir=models, cache_dir=tmp_path / "c", offline=True, formats=wanted)
    write_model(models / "faster-whisper-small")
    found = resolve_model("small", model_dir=models, cache_dir=tmp_path / "c", offline=True, formats=wanted)
    assert found.format is ModelFormat.CTRANSLATE2


def test_a_path_of_that_format(tmp_path: Path, folder: Path) -> None:
    model = resolve_model(str(folder), cache_dir=tmp_path / "cache")
    assert (model.name, model.format, model.path) == ("model", ModelFormat.HUGGINGFACE, folder)
