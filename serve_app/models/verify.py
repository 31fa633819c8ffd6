"""Is a folder a Whisper model that the engine can run, and if not, what is missing and what does that do?

What each absence does was found by taking the files and keys away one by one (CTranslate2 4.8.5,
faster-whisper 1.2.1): some fail at load, some only at the first word times, one asks the hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from serve_app.models.huggingface import inspect_huggingface, is_huggingface
from serve_app.models.packages import sha256_of
from serve_app.models.places import FILES, ModelSource, spec_of_folder
from serve_app.models.registry import find_spec
from serve_app.models.report import (
    DEFAULT_NUM_MELS,
    MAX_TOKENIZER_BYTES,
    FolderReport,
    Problem,
    check_tokenizer,
    read_json,
    read_object,
)
from serve_app.models.tensor_files import model_bin_shapes

_VOCABULARY_NAMES = ("vocabulary.json", "vocabulary.txt")
_MEL_VARIABLE = "encoder/conv1/weight"
_MAX_MELS = 1_024
SUMS_NAME = "SHA256SUMS"
_MAX_SUMS_BYTES = 64 << 10
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([\w][\w.-]*)", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def expected_sums(folder: Path, source: ModelSource) -> dict[str, str]:
    """File name to SHA-256, as far as it is known.

    A model out of packages has the registry's; a folder of one's own those that `SHA256SUMS` in it lists
    (`sotto models pull --to` writes it); a snapshot of the hub those by which its cache names large files.
    """
    if source in (ModelSource.PACKAGE, ModelSource.CACHE):
        spec = find_spec(folder.name) or spec_of_folder(folder)
        if spec is not None and spec.sums:
            return spec.sums
    return read_sums(folder) or (_blob_sums(folder) if source is ModelSource.HUB else {})


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that belong to the model, in order of their names."""
    found = {file for pattern in FILES for file in folder.glob(pattern) if file.is_file()}
    return sorted(found)


def read_sums(folder: Path) -> dict[str, str]:
    """What `SHA256SUMS` lists; lines of another form are passed over."""
    try:
        with (folder / SUMS_NAME).open("rb") as source:
            text = source.read(_MAX_SUMS_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return {}
    return {match[2]: match[1] for line in text.splitlines() if (match := _LINE.fullmatch(line))}


def write_sums(folder: Path) -> dict[str, str]:
    """Write `SHA256SUMS`, which `sha256sum -c` reads too; the sums of the files as they are now."""
    sums = {file.name: sha256_of(file) for file in model_files(folder)}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / SUMS_NAME).write_text(lines, encoding="utf-8")
    return sums


def _blob_sums(folder: Path) -> dict[str, str]:
    """The hub's cache names a large file by its SHA-256, and links to it; small ones have git's own sum."""
    names = {file.name: file.resolve().name for file in model_files(folder) if file.is_symlink()}
    return {name: blob for name, blob in names.items() if _SHA256.fullmatch(blob)}


def check_folder(path: Path) -> list[str]:
    """What is wrong with a model folder, a sentence each; an empty list for a whole one."""
    return [str(problem) for problem in inspect_folder(path).problems]


def check_sums(path: Path, sums: Mapping[str, str]) -> list[str]:
    """Which files of a folder differ from their SHA-256 sums (file name to hex digest)."""
    problems = []
    for name, expected in sums.items():
        file = path / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif sha256_of(file) != expected:
            problems.append(f"{name} does not match its checksum")
    return problems


def inspect_folder(path: Path) -> FolderReport:
    """Look at every file of a model folder of either format; reads headers and JSON, not the weights."""
    if not _is_folder(path):
        return FolderReport((Problem(f"{str(path)[:300]} is not a folder"),), False, DEFAULT_NUM_MELS, 0)
    if is_huggingface(path):
        return inspect_huggingface(path)
    problems: list[Problem] = []
    stored_mels = _check_weights(path / "model.bin", problems)
    vocabulary = _check_vocabulary(path, problems)
    # CTranslate2's own test of a multilingual model: does the vocabulary hold the empty token?
    multilingual = "" in vocabulary
    num_languages = _check_config(path / "config.json", multilingual, problems)
    num_spoken = check_tokenizer(path / "tokenizer.json", problems)
    stated_mels = _check_preprocessor(path / "preprocessor_config.json", problems)
    num_mels = stored_mels or stated_mels or DEFAULT_NUM_MELS
    _compare_mels(num_mels, stated_mels, problems)
    return FolderReport(
        tuple(problems), multilingual, num_mels, (num_languages or num_spoken) if multilingual else 1
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no file system would take
        return False


def _check_weights(file: Path, problems: list[Problem]) -> int | None:
    if not file.is_file():
        problems.append(Problem("model.bin is missing: the model cannot be loaded"))
        return None
    try:
        return read_num_mels(file)
    except (ValueError, OSError) as error:
        problems.append(Problem(f"model.bin cannot be read ({error}): the model cannot be loaded"))
        return None


def _check_vocabulary(path: Path, problems: list[Problem]) -> frozenset[str]:
    for name in _VOCABULARY_NAMES:
        file = path / name
        if file.is_file():
            break
    else:
        problems.append(Problem("vocabulary.json (or .txt) is missing: the model cannot be loaded"))
        return frozenset()
    tokens = read_json(file, MAX_TOKENIZER_BYTES) if file.suffix == ".json" else _read_lines(file)
    if not isinstance(tokens, list) or not tokens:
        problems.append(Problem(f"{name} cannot be read: the model cannot be loaded"))
        return frozenset()
    return frozenset(token for token in tokens if isinstance(token, str))


def _read_lines(file: Path) -> list[str] | None:
    try:
        with file.open("rb") as source:
            text = source.read(MAX_TOKENIZER_BYTES).decode("utf-8")
    except (OSError, ValueError):
        return None
    return text.removesuffix("\n").split("\n")


def _check_config(file: Path, multilingual: bool, problems: list[Problem]) -> int:
    config = read_object(file, problems, "the model cannot be loaded")
    if config is None:
        return 0
    lang_ids = config.get("lang_ids")
    if multilingual and not lang_ids:
        problems.append(
            Problem("config.json lacks lang_ids: the language cannot be detected, set one", fatal=False)
        )
    if "suppress_ids_begin" not in config:
        problems.append(Problem("config.json lacks suppress_ids_begin: every decode fails"))
    if not config.get("alignment_heads"):
        problems.append(Problem("config.json lacks alignment_heads: word times fail", fatal=False))
    if "suppress_ids" not in config:
        problems.append(
            Problem("config.json lacks suppress_ids: symbols such as music notes may be written", fatal=False)
        )
    return len(lang_ids) if isinstance(lang_ids, list) else 0


def _check_preprocessor(file: Path, problems: list[Problem]) -> int | None:
    if not file.is_file():
        return None
    config = read_object(file, problems, "the mel count is unknown")
    num_mels = (config or {}).get("feature_size", DEFAULT_NUM_MELS)
    return num_mels if type(num_mels) is int and 0 < num_mels <= _MAX_MELS else None


def _compare_mels(num_mels: int, stated_mels: int | None, problems: list[Problem]) -> None:
    if (stated_mels or DEFAULT_NUM_MELS) == num_mels:
        return
    found = "is missing" if stated_mels is None else f"says {stated_mels} mels"
    problems.append(
        Problem(
            f"preprocessor_config.json {found}, the weights expect {num_mels}: programs that go by that "
            "file fail at the first decode",
            fatal=False,
        )
    )


def read_num_mels(model_bin: Path) -> int | None:
    """Mel channels that the first convolution of a model.bin expects; None where its format is not known.

    Raises `ValueError` for a file that is cut short or holds no Whisper model.
    """
    shapes = model_bin_shapes(model_bin)
    shape = (shapes or {}).get(_MEL_VARIABLE, ())
    return shape[1] if len(shape) == 3 else None
