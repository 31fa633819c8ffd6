"""What is missing from a folder, and what each absence does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fakes.whisper_folder import model_bin, write_model
from serve_app.models import find_spec, resolve_model
from serve_app.models.verify import check_folder, check_sums, inspect_folder, read_num_mels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    value = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


def test_a_sound_folder(folder: Path) -> None:
    report = inspect_folder(folder)
    assert report.problems == ()
    assert report.multilingual
    assert report.num_mels == 80
    assert report.num_languages == 99


def test_128_mels(tmp_path: Path) -> None:
    report = inspect_folder(write_model(tmp_path / "large", num_mels=128))
    assert report.problems == ()
    assert report.num_mels == 128


def test_english_only_by_its_vocabulary(tmp_path: Path) -> None:
    report = inspect_folder(write_model(tmp_path / "model", multilingual=False))
    assert not report.multilingual
    assert report.num_languages == 1


def test_vocabulary_as_text(folder: Path) -> None:
    (folder / "vocabulary.json").unlink()
    (folder / "vocabulary.txt").write_text("a\nb\n\nc\n")
    assert inspect_folder(folder).multilingual
    (folder / "vocabulary.txt").write_text("a\nb\nc\n")
    assert not inspect_folder(folder).multilingual


def test_no_folder(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "nothing") == [f"{tmp_path / 'nothing'} is not a folder"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("model.bin", "model.bin is missing: the model cannot be loaded"),
        ("config.json", "config.json is missing: the model cannot be loaded"),
        ("vocabulary.json", "vocabulary.json (or .txt) is missing: the model cannot be loaded"),
        ("tokenizer.json", "tokenizer.json is missing: the engine would ask the hub for one"),
    ],
)
def test_missing_files_are_fatal(folder: Path, name: str, problem: str) -> None:
    (folder / name).unlink()
    assert problem in inspect_folder(folder).fatal


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "tokenizer.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"3"])
def test_damaged_json_is_fatal(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    assert any(name in problem for problem in inspect_folder(folder).fatal)


@pytest.mark.parametrize(
    ("key", "words", "fatal"),
    [
        ("alignment_heads", "word times fail", False),
        ("lang_ids", "language cannot be detected", False),
        ("suppress_ids", "symbols", False),
        ("suppress_ids_begin", "every decode fails", True),
    ],
)
def test_missing_keys(folder: Path, key: str, words: str, fatal: bool) -> None:
    edit(folder / "config.json", **{key: None})
    (problem,) = inspect_folder(folder).problems
    assert key in problem.message
    assert words in problem.message
    assert problem.fatal is fatal


def test_an_english_model_needs_no_language_ids(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", multilingual=False)
    edit(folder / "config.json", lang_ids=None)
    assert check_folder(folder) == []


def test_128_mels_without_the_preprocessor_file(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "large", num_mels=128)
    (folder / "preprocessor_config.json").unlink()
    report = inspect_folder(folder)
    assert report.num_mels == 128
    assert report.fatal == ()
    assert "preprocessor_config.json is missing, the weights expect 128" in str(report.problems[0])


def test_the_weights_are_believed_before_the_preprocessor_file(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"feature_size": 128}')
    report = inspect_folder(folder)
    assert report.num_mels == 80
    assert "says 128 mels" in str(report.problems[0])


def test_cut_weights(folder: Path) -> None:
    whole = (folder / "model.bin").read_bytes()
    for size_bytes in (0, 3, 10, 40, len(whole) // 2):
        (folder / "model.bin").write_bytes(whole[:size_bytes])
        assert "cut short" in inspect_folder(folder).fatal[0]


def test_weights_of_another_kind(folder: Path) -> None:
    (folder / "model.bin").write_bytes(model_bin(spec_name="TransformerSpec"))
    assert "TransformerSpec model, not Whisper" in inspect_folder(folder).fatal[0]


def test_a_format_that_is_not_known_is_left_to_the_engine(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"\x09\0\0\0 whatever comes here")
    assert read_num_mels(folder / "model.bin") is None
    assert inspect_folder(folder).fatal == ()


def test_sums(folder: Path) -> None:
    sums = {"model.bin": "0" * 64, "gone.json": "0" * 64}
    assert check_sums(folder, sums) == ["model.bin does not match its checksum", "gone.json is missing"]


@pytest.mark.models
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_the_packaged_models_are_sound(name: str) -> None:
    model = resolve_model(name, offline=True)
    spec = find_spec(name)
    assert spec is not None
    assert check_folder(model.path) == []
    assert check_sums(model.path, spec.sums) == []
    assert read_num_mels(model.path / "model.bin") == 80
    assert model.multilingual is (name == "base")
