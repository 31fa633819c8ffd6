"""Is a folder a CTranslate2 Whisper model? Asked at start: the library finds out at the first decode."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import structlog

from serve_app.errors import ModelUnavailable
from serve_app.models.verify import inspect_folder

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that holds all the engine needs."""

    path: Path
    num_mels: int
    multilingual: bool
    vocabulary_size: int

    @property
    def tokenizer_path(self) -> Path:
        return self.path / "tokenizer.json"


def open_model_folder(path: Path) -> ModelFolder:
    """Check the folder's files and keys. Raises `ModelUnavailable` naming all that is missing."""
    report = inspect_folder(path)
    if report.fatal:
        raise ModelUnavailable(f"the model folder {path} cannot be used: {'; '.join(report.fatal)}")
    for problem in report.problems:
        _log.warning("model folder is incomplete", path=str(path), problem=str(problem))
    return ModelFolder(path, report.num_mels, report.multilingual, _vocabulary_size(path))


def _vocabulary_size(path: Path) -> int:
    """Rows of the model's vocabulary, time tokens included; tokenizer.json may leave those out."""
    listed = path / "vocabulary.json"
    if listed.is_file():
        return len(json.loads(listed.read_text(encoding="utf-8")))
    return len((path / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n"))
