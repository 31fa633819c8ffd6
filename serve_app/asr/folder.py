"""Is a folder a Whisper model to decode with? Asked at start: engines find out at the first decode."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from serve_app.core.errors import ModelUnavailable
from serve_app.models.report import MAX_CONFIG_BYTES, read_json
from serve_app.models.verify import inspect_folder

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that holds all that a transcriber needs.

    `suppressed` ids never come in a text, `suppressed_first` not as its first token: both the model's own.
    """

    path: Path
    num_mels: int
    multilingual: bool
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]

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
    config: dict[str, Any] = {}
    for name in ("config.json", "generation_config.json"):
        read = read_json(path / name, MAX_CONFIG_BYTES)
        config |= read if isinstance(read, dict) else {}
    return ModelFolder(
        path=path,
        num_mels=report.num_mels,
        multilingual=report.multilingual,
        suppressed=_ids(config, "suppress_ids", "suppress_tokens"),
        suppressed_first=_ids(config, "suppress_ids_begin", "begin_suppress_tokens"),
    )


def count_vocabulary(path: Path) -> int:
    """Rows of a CTranslate2 folder's vocabulary, time tokens included; tokenizer.json may leave those out."""
    listed = path / "vocabulary.json"
    if listed.is_file():
        return len(json.loads(listed.read_text(encoding="utf-8")))
    return len((path / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def _ids(config: dict[str, Any], *names: str) -> tuple[int, ...]:
    """The first list of ids that is there; CTranslate2's and Hugging Face's names differ."""
    for name in names:
        ids = config.get(name)
        if isinstance(ids, list):
            return tuple(i for i in ids if isinstance(i, int) and i >= 0)
    return ()
