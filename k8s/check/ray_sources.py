"""The installed Ray's own files: what it calls its variables and its metrics is only said there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def ray_source(*names: str) -> str:
    """The text of these files of the package; those that this Ray does not have are left out."""
    return "".join(path.read_text() for path in _there(names))


def ray_binary(name: str) -> bytes:
    """One file of the package as it is, empty where this Ray does not have it."""
    return b"".join(path.read_bytes() for path in _there((name,)))


def _there(names: tuple[str, ...]) -> list[Path]:
    spec = find_spec("ray")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    return [folder / name for name in names if (folder / name).exists()]
