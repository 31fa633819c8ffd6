"""What tells one set of a model's files from another under the same path."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def files_mark(path: str) -> str:
    """A hash of names, sizes and times of the files in a model's folder, as they were when first asked for:
    what is loaded does not change with the files. Empty where nothing is there, as on another machine."""
    folder = Path(path)
    try:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        facts = [
            (str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files
        ]
    except OSError:
        return ""
    return hashlib.sha256(repr(facts).encode()).hexdigest() if facts else ""
