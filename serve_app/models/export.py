"""A model as a folder of its own that can be copied to a machine without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from serve_app.core.errors import ModelUnavailable
from serve_app.models.places import folder_name
from serve_app.models.resolve import ResolvedModel
from serve_app.models.verify import SUMS_NAME, check_sums, expected_sums, model_files, read_sums, write_sums

_CHUNK_BYTES = 4 << 20

Progress = Callable[[str, int, int], None]
"""Called with a file's name, its bytes written so far, and its size."""


def export_model(model: ResolvedModel, into: Path, progress: Progress = lambda *_: None) -> Path:
    """Copy a model's files to `into/<name>`, which STT_MODEL_DIR=`into` finds; returns that folder.

    Files that an earlier, broken-off call had copied whole are kept. The folder gets its name when all of it
    is there and right, with `SHA256SUMS`. Raises `ModelUnavailable` where a sum is not the expected one or
    the folder cannot be written.
    """
    target = into / folder_name(model.name)
    building = into / f".{target.name}.partial"
    try:
        if target.resolve() == model.path.resolve() or _is_same(model.path, target):
            return target
        building.mkdir(parents=True, exist_ok=True)
        files = model_files(model.path)
        _remove_strangers(building, files)
        for file in files:
            _copy(file, building / file.name, progress)
        # The second shows a file kept from an earlier call for other weights, and a bad disk.
        problems = check_sums(building, expected_sums(model.path, model.source))
        problems += check_sums(model.path, write_sums(building))
        if problems:
            shutil.rmtree(building, ignore_errors=True)
            raise ModelUnavailable(
                f"{model.name}: {'; '.join(dict.fromkeys(problems))}; nothing was kept, pull it again"
            )
        _put_in_place(building, target)
    except OSError as error:
        raise ModelUnavailable(
            f"cannot write {model.name} into {into}: {error.strerror or error}; "
            "what is there is kept, pull again to go on"
        ) from error
    return target


def _is_same(source: Path, target: Path) -> bool:
    """Whether an earlier call has finished: every file in its size, with the sums that were written."""
    sizes = {file.name: file.stat().st_size for file in model_files(source)}
    sums = read_sums(target)
    if not target.is_dir() or set(sums) != set(sizes):
        return False
    if any(not (target / name).is_file() or (target / name).stat().st_size != sizes[name] for name in sizes):
        return False
    return not check_sums(target, sums) and not check_sums(source, sums)


def _copy(source: Path, target: Path, progress: Progress) -> None:
    """Copy under a temporary name, so that a file under its own name is whole."""
    size_bytes = source.stat().st_size
    if target.is_file() and target.stat().st_size == size_bytes:
        progress(target.name, size_bytes, size_bytes)
        return
    part = target.with_name(f"{target.name}.part")
    with source.open("rb") as reading, part.open("wb") as writing:
        num_bytes = 0
        while chunk := reading.read(_CHUNK_BYTES):
            writing.write(chunk)
            num_bytes += len(chunk)
            progress(target.name, num_bytes, size_bytes)
        writing.flush()
        os.fsync(writing.fileno())
    part.replace(target)


def _remove_strangers(building: Path, files: Iterable[Path]) -> None:
    """What an earlier call for other files of this name had left."""
    names = {file.name for file in files}
    for file in building.iterdir():
        if file.name not in names:
            file.unlink()


def _put_in_place(building: Path, target: Path) -> None:
    if target.exists():
        if not _may_be_replaced(target):
            raise OSError(f"{target} exists and holds something else")
        shutil.rmtree(target)
    building.rename(target)


def _may_be_replaced(target: Path) -> bool:
    """Only what this module wrote is removed: a folder that holds nothing but what its sums name."""
    if not target.is_dir():
        return False
    names = {file.name for file in target.iterdir()}
    return not names or (SUMS_NAME in names and names <= {SUMS_NAME, *read_sums(target)})
