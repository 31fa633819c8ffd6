"""Model files out of installed packages: found without importing them, joined once, checked against sums.

Registries limit the size of a wheel, so that a model may lie in parts over several distributions. They are
joined into the cache folder under a temporary name and renamed when every sum is right: a process that sees
the folder sees all of it. A lock keeps several processes that start together from writing it several times;
where the file system has no locks, the rename alone still keeps the folder whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serve_app.core.errors import ModelUnavailable
from serve_app.models.registry import (
    SILERO_VAD,
    SILERO_VAD_SEQUENCE,
    DataFile,
    FilePart,
    ModelSpec,
    PackagedFile,
)

_CHUNK_BYTES = 1 << 20


class PackageMissing(ModelUnavailable):
    """A distribution that should carry a model's files is not installed, or lacks one of them."""


class PackageDamaged(ModelUnavailable):
    """A file out of a package is not the one that this release was checked against."""


def locate(part: FilePart) -> Path:
    """The file of an installed distribution, without importing it. Raises `PackageMissing`."""
    try:
        files = importlib.metadata.files(part.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise PackageMissing(f"package {part.distribution} is not installed") from None
    for file in files or ():
        if file.as_posix() == part.file:
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise PackageMissing(f"package {part.distribution} lacks {part.file}: reinstall it")


def is_installed(spec: ModelSpec) -> bool:
    """Whether every part of the model lies in an installed package (the sums are not checked here)."""
    try:
        for file in spec.packaged_files:
            for part in file.parts:
                locate(part)
    except PackageMissing:
        return False
    return bool(spec.packaged_files)


def is_whole(folder: Path, spec: ModelSpec) -> bool:
    """Whether a joined folder holds every file in its full size; the sums were checked when it was joined."""
    try:
        return all((folder / file.name).stat().st_size == file.size_bytes for file in spec.packaged_files)
    except OSError:
        return False


def join_packages(spec: ModelSpec, folder: Path) -> Path:
    """Put the model's files into `folder`, once, also where other processes do the same; returns `folder`.

    Raises `PackageMissing`, `PackageDamaged`, or `ModelUnavailable` where the folder cannot be written.
    """
    sources = [(file, [locate(part) for part in file.parts]) for file in spec.packaged_files]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f".{folder.name}.lock") as alone:
            if not is_whole(folder, spec):
                if alone:
                    _remove_leftovers(folder)
                _join(sources, folder, spec)
    except OSError as error:
        raise ModelUnavailable(
            f"cannot write {spec.name} into {folder.parent}: {error.strerror or error}; "
            "free space there or set STT_CACHE_DIR to a folder that can be written"
        ) from error
    return folder


def _join(sources: list[tuple[PackagedFile, list[Path]]], folder: Path, spec: ModelSpec) -> None:
    building = Path(tempfile.mkdtemp(prefix=_leftover_prefix(folder), dir=folder.parent))
    try:
        for file, parts in sources:
            _write_checked(file, parts, building / file.name)
        building.chmod(0o755)
        _put_in_place(building, folder, spec)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_checked(file: PackagedFile, parts: list[Path], target: Path) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as output:
        for part in parts:
            with part.open("rb") as source:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    output.write(chunk)
        output.flush()
        os.fsync(output.fileno())
    if digest.hexdigest() != file.sha256:
        owners = " and ".join(dict.fromkeys(part.distribution for part in file.parts))
        raise PackageDamaged(f"{file.name} out of {owners} does not match its checksum: reinstall {owners}")


def _put_in_place(building: Path, folder: Path, spec: ModelSpec) -> None:
    """Rename, moving a damaged folder aside; a whole one that appeared meanwhile is kept."""
    if folder.exists() and not is_whole(folder, spec):
        aside = Path(tempfile.mkdtemp(prefix=_leftover_prefix(folder), dir=folder.parent))
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside / folder.name)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        building.rename(folder)
    except OSError:
        if not is_whole(folder, spec):
            raise


def _leftover_prefix(folder: Path) -> str:
    return f".{folder.name}-joining-"


def _remove_leftovers(folder: Path) -> None:
    """What a killed process left half written; only under the lock, where no other process writes."""
    for leftover in folder.parent.glob(f"{_leftover_prefix(folder)}*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock file; yields False where the file system has no locks."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def silero_vad_path() -> Path:
    """Silero's streaming VAD (`silero_vad.onnx`): windows of many sessions in one batch, state outside.

    Found in the silero-vad package without importing it (that would import torch). Raises `PackageMissing`,
    `PackageDamaged`.
    """
    return checked_file(SILERO_VAD)


def silero_vad_sequence_path() -> Path:
    """The same weights over a whole recording in one call (`silero_vad_16k_sequence.onnx`)."""
    return checked_file(SILERO_VAD_SEQUENCE)


def checked_file(file: DataFile) -> Path:
    """Where a distribution's file lies, its sum checked. Raises `PackageMissing`, `PackageDamaged`."""
    path = locate(file.part)
    status = path.stat()
    if _sha256_cached(path, status.st_size, status.st_mtime_ns) != file.sha256:
        raise PackageDamaged(
            f"{path.name} out of {file.part.distribution} is not that of version {file.version}: "
            f"install {file.part.distribution}=={file.version}"
        )
    return path


@functools.lru_cache(maxsize=16)
def _sha256_cached(path: Path, size_bytes: int, mtime_ns: int) -> str:
    """The sum of a file, computed once as long as its size and time stay the same."""
    return sha256_of(path)
