"""Which checksums a model folder should have: the registry's, the hub's, or those written beside it."""

from __future__ import annotations

import re
from pathlib import Path

from serve_app.models.hub import FILES
from serve_app.models.packages import sha256_of
from serve_app.models.places import ModelSource, spec_of_folder
from serve_app.models.registry import find_spec

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
