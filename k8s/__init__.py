"""Manifests for Kubernetes with KubeRay, what generates parts of them, and what checks them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_or_check(
    texts: Mapping[Path, str], arguments: list[str], *, below: Path, source: str, module: str
) -> int:
    """Write the files, or with `--check` compare them; the exit status. They are named from `below` on."""
    is_check = "--check" in arguments
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        shown = path.relative_to(below)
        if is_check:
            print(f"{shown} is not what {source} says: run python -m {module}")
        else:
            path.write_text(texts[path])
            print(f"wrote {shown}")
    return 1 if stale and is_check else 0
