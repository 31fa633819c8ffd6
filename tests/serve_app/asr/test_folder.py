"""Model folders are refused at start, with what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.asr.folder import count_vocabulary, open_model_folder
from serve_app.core.errors import ModelUnavailable

pytestmark = pytest.mark.models


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_a_sound_folder(copy: Path, base_folder: Path) -> None:
    tiny, base = open_model_folder(copy), open_model_folder(base_folder)
    assert (tiny.num_mels, tiny.multilingual) == (80, False)
    assert (base.num_mels, base.multilingual) == (80, True)
    assert count_vocabulary(base_folder) == 51_865
    assert count_vocabulary(copy) == 51_864
    assert base.suppressed[:3] == (1, 2, 7)
    assert base.suppressed_first == (220, 50257)


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json", "vocabulary.txt"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelUnavailable, match=name.split(".")[0]):
        open_model_folder(copy)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="not a folder"):
        open_model_folder(tmp_path / "nowhere")
