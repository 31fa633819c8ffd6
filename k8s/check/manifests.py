"""Manifests as they come out of YAML, the pods that they lead to, and the problems found in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, the outer ones first; it may be changed on the way."""
    if isinstance(tree, list):
        for item in tree:
            yield from nodes(item)
    elif isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)


TEMPLATES = {"StatefulSet", "Deployment", "DaemonSet", "Job"}


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod template with the object that holds it; `role` is head, worker or other."""

    owner: Manifest
    path: Path
    role: str
    template: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        return self.template.get("spec") or {}

    @property
    def labels(self) -> dict[str, str]:
        return (self.template.get("metadata") or {}).get("labels") or {}

    @property
    def containers(self) -> list[dict[str, Any]]:
        return self.spec.get("containers") or []

    @property
    def all_containers(self) -> list[dict[str, Any]]:
        return [*(self.spec.get("initContainers") or []), *self.containers]

    def as_pod(self) -> Manifest:
        """The pod that would be made of it, for the Pod schema."""
        metadata = {"name": "checked", **(self.template.get("metadata") or {})}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.spec}


def pod_templates(manifests: Sequence[Manifest]) -> Iterator[PodTemplate]:
    for manifest in manifests:
        spec = manifest.get("spec") or {}
        if manifest.get("kind") in TEMPLATES:
            yield PodTemplate(manifest, ("spec", "template"), "other", spec.get("template") or {})
        elif manifest.get("kind") == "RayService":
            yield from _ray_templates(manifest, spec.get("rayClusterConfig") or {})


def _ray_templates(manifest: Manifest, cluster: dict[str, Any]) -> Iterator[PodTemplate]:
    at: Path = ("spec", "rayClusterConfig")
    head = (cluster.get("headGroupSpec") or {}).get("template") or {}
    yield PodTemplate(manifest, (*at, "headGroupSpec", "template"), "head", head)
    for index, group in enumerate(cluster.get("workerGroupSpecs") or []):
        path = (*at, "workerGroupSpecs", index, "template")
        yield PodTemplate(manifest, path, "worker", group.get("template") or {})
