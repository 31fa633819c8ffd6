"""Plant a fault in sound manifests, and see that the check names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from k8s.check import problems
from k8s.check.manifests import Manifest

Manifests = list[Manifest]
Fault = Callable[[Manifests], None]
Built: TypeAlias = Callable[[str], Manifests]
"""Overlay to its manifests, a copy of one's own at each call."""


@dataclass(frozen=True)
class Planted:
    name: str
    plant: Fault
    message: str
    overlay: str = "multi-gpu"


def find(manifests: Manifests, kind: str, name: str | None = None) -> Manifest:
    return next(
        each
        for each in manifests
        if each["kind"] == kind and (name is None or each["metadata"]["name"].startswith(name))
    )


def service(manifests: Manifests) -> dict[str, Any]:
    return find(manifests, "RayService")["spec"]


def cluster(manifests: Manifests) -> dict[str, Any]:
    return service(manifests)["rayClusterConfig"]


def head(manifests: Manifests) -> dict[str, Any]:
    return cluster(manifests)["headGroupSpec"]


def workers(manifests: Manifests) -> dict[str, Any]:
    return cluster(manifests)["workerGroupSpecs"][0]


def worker_pod(manifests: Manifests) -> dict[str, Any]:
    return workers(manifests)["template"]["spec"]


def worker(manifests: Manifests) -> dict[str, Any]:
    return worker_pod(manifests)["containers"][0]


def head_container(manifests: Manifests) -> dict[str, Any]:
    return head(manifests)["template"]["spec"]["containers"][0]


def put(place: Callable[[Manifests], dict[str, Any]], *path: Any) -> Fault:
    """Set the value at the end of `path`, whose last item is the value."""

    def plant(manifests: Manifests) -> None:
        node: Any = place(manifests)
        for key in path[:-2]:
            node = node[key]
        node[path[-2]] = path[-1]

    return plant


def drop(place: Callable[[Manifests], dict[str, Any]], *path: Any) -> Fault:
    def plant(manifests: Manifests) -> None:
        node: Any = place(manifests)
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]

    return plant


def of(kind: str, name: str | None = None) -> Callable[[Manifests], dict[str, Any]]:
    return lambda manifests: find(manifests, kind, name)


def served(change: Callable[[dict[str, Any]], None]) -> Fault:
    """Change serveConfigV2."""

    def plant(manifests: Manifests) -> None:
        config = yaml.safe_load(service(manifests)["serveConfigV2"])
        change(config)
        service(manifests)["serveConfigV2"] = yaml.safe_dump(config)

    return plant


def served_deployment(name: str, key: str, value: Any) -> Fault:
    def change(config: dict[str, Any]) -> None:
        for deployment in config["applications"][0]["deployments"]:
            if deployment["name"] == name:
                deployment[key] = value

    return served(change)


def dashboard_query(query: str) -> Fault:
    def plant(manifests: Manifests) -> None:
        data = find(manifests, "ConfigMap", "sotto-dashboards")["data"]
        board = json.loads(data["sotto-service.json"])
        board["panels"][1]["targets"][0]["expr"] = query
        data["sotto-service.json"] = json.dumps(board)

    return plant


def ruled(key: str, value: Any) -> Fault:
    return put(of("PrometheusRule"), "spec", "groups", 1, "rules", 0, key, value)


def words_for(fault: Planted, built: Built) -> list[str]:
    """What the check says of the overlay with the fault in it."""
    manifests = built(fault.overlay)
    fault.plant(manifests)
    return [str(problem) for problem in problems(manifests)]
