"""What a check found, and manifests as they come out of YAML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Manifest: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """`where` names the object ("RayService/sotto") and the place in it, `message` what is wrong there."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def name_of(manifest: Manifest) -> str:
    return f"{manifest.get('kind')}/{(manifest.get('metadata') or {}).get('name')}"


def problem(manifest: Manifest, message: str, path: Sequence[str | int] = ()) -> Problem:
    place = ".".join(str(step) for step in path)
    return Problem(f"{name_of(manifest)} {place}".strip(), message)


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest.get("kind") in kinds]
