"""Make `schemas/` anew: the schemas that the check needs, without descriptions, one file a kind.

    python -m k8s.check.vendor --crds FOLDER --kubernetes FOLDER

`--crds` holds CustomResourceDefinitions as YAML: KubeRay's, the Gateway API's standard channel, Envoy
Gateway's, the Prometheus operator's. `--kubernetes` is one `v1.NN.0-local-strict` folder of the
kubernetes-validate package. schemas/README.md says which versions these were.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from k8s.check.manifests import nodes
from k8s.check.schemas import SCHEMAS

DROPPED = {
    "description", "title", "format", "externalDocs", "x-kubernetes-validations", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
}  # fmt: skip
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CUSTOM_KINDS = {
    "RayService", "Gateway", "HTTPRoute", "BackendTrafficPolicy", "ClientTrafficPolicy", "PodMonitor",
    "PrometheusRule",
}  # fmt: skip
BUILT_IN = {
    "io.k8s.api.core.v1": (
        "Pod",
        "ConfigMap",
        "Service",
        "Namespace",
        "PersistentVolumeClaim",
        "Secret",
        "ServiceAccount",
    ),
    "io.k8s.api.apps.v1": ("StatefulSet", "Deployment"),
    "io.k8s.api.batch.v1": ("Job",),
    "io.k8s.api.networking.v1": ("NetworkPolicy",),
    "io.k8s.api.policy.v1": ("PodDisruptionBudget",),
}


def trimmed(node: Any, *, names: bool = False) -> Any:
    """`node` without what validates nothing; the keys of `properties` are names and stay."""
    if isinstance(node, list):
        return [trimmed(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: trimmed(value, names=key in ("properties", "$defs") and not names)
        for key, value in node.items()
        if names or key not in DROPPED
    }


def custom_schemas(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """(apiVersion, kind, schema) of the newest served version of each custom kind that is used."""
    for path in sorted(folder.glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text()):
            if not definition or definition["spec"]["names"]["kind"] not in CUSTOM_KINDS:
                continue
            spec = definition["spec"]
            version = next(version for version in spec["versions"] if version["storage"])
            schema = trimmed(version["schema"]["openAPIV3Schema"])
            schema["properties"].pop("status", None)
            if spec["group"] == "ray.io":
                # Pod templates are most of KubeRay's schema; the check holds them to the Pod schema instead.
                for node in nodes(schema):
                    if "template" in (node.get("properties") or {}):
                        node["properties"]["template"] = dict(ANYTHING)
            yield f"{spec['group']}/{version['name']}", spec["names"]["kind"], schema


def built_in_schemas(folder: Path) -> dict[str, Any]:
    """The definitions of the built-in kinds that are used, and of all that they refer to."""
    definitions = json.loads((folder / "_definitions.json").read_text())
    definitions = definitions.get("$defs") or definitions["definitions"]
    wanted = [f"{group}.{kind}" for group, kinds in BUILT_IN.items() for kind in kinds]
    kept: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = trimmed(definitions[name])
            for node in nodes(kept[name]):
                if isinstance(node.get("$ref"), str):
                    node["$ref"] = "#/$defs/" + node["$ref"].rpartition("/")[2]
            wanted += re.findall(r"#/\$defs/([\w.]+)", json.dumps(kept[name]))
    return dict(sorted(kept.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--crds", type=Path, required=True)
    parser.add_argument("--kubernetes", type=Path, required=True)
    arguments = parser.parse_args()
    for api_version, kind, schema in custom_schemas(arguments.crds):
        _write(f"{kind.lower()}.json", {"apiVersion": api_version, "kind": kind, "schema": schema})
    _write("kubernetes.json", built_in_schemas(arguments.kubernetes))


def _write(name: str, data: Any) -> None:
    (SCHEMAS / name).write_text(json.dumps(data, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
