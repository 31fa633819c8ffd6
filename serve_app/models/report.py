"""What is found out about a model folder, and how its files are read: never more of them than expected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from serve_app.models.languages import LANGUAGES

DEFAULT_NUM_MELS = 80
MAX_CONFIG_BYTES = 4 << 20
MAX_TOKENIZER_BYTES = 64 << 20
_LANGUAGE_TOKENS = frozenset(f"<|{code}|>" for code in LANGUAGES)


class ModelFormat(StrEnum):
    """Which of the two kinds of folder: with `model.bin`, or with `model.safetensors`."""

    CTRANSLATE2 = "ctranslate2"
    HUGGINGFACE = "huggingface"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a folder. `fatal`: no engine can decode with it at all."""

    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What a folder holds. `num_mels` is what the weights expect, 80 where they do not say."""

    problems: tuple[Problem, ...]
    multilingual: bool
    num_mels: int
    num_languages: int
    format: ModelFormat = ModelFormat.CTRANSLATE2

    @property
    def fatal(self) -> tuple[str, ...]:
        return tuple(str(problem) for problem in self.problems if problem.fatal)


def read_json(file: Path, max_bytes: int) -> object:
    """The value in a file, None for one that is no JSON, larger than `max_bytes`, or cannot be opened."""
    try:
        with file.open("rb") as source:
            data = source.read(max_bytes + 1)
        return None if len(data) > max_bytes else json.loads(data)
    except (OSError, ValueError, RecursionError):
        return None


def read_object(
    file: Path, problems: list[Problem], effect: str, *, max_bytes: int = MAX_CONFIG_BYTES
) -> dict[str, object] | None:
    """The JSON object in a file; None with a problem noted, which ends with the `effect` of that."""
    if not file.is_file():
        problems.append(Problem(f"{file.name} is missing: {effect}"))
        return None
    value = read_json(file, max_bytes)
    if not isinstance(value, dict):
        problems.append(Problem(f"{file.name} is no JSON object: {effect}"))
        return None
    return value


def check_tokenizer(file: Path, problems: list[Problem]) -> int:
    """How many languages the tokenizer has tokens for; 0 where it does not say."""
    tokenizer = read_object(
        file, problems, "the engine would ask the hub for one", max_bytes=MAX_TOKENIZER_BYTES
    )
    if tokenizer is None:
        return 0
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    if not isinstance(model, dict):
        problems.append(Problem("tokenizer.json has no model: the text cannot be spelled"))
    tokens = added if isinstance(added, list) else []
    contents = (token.get("content") for token in tokens if isinstance(token, dict))
    return sum(1 for content in contents if isinstance(content, str) and content in _LANGUAGE_TOKENS)
