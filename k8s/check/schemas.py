"""Manifests against the schemas of their kinds, as strictly as a server that refuses unknown fields.

Built-in kinds go by Kubernetes' own definitions, custom ones by their CustomResourceDefinitions, and every
pod template, KubeRay's included, by the definition of a pod. What definitions say in CEL is not evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from k8s.check.manifests import Manifest, Problem, nodes, pod_templates, problem

SCHEMAS = Path(__file__).parent / "schemas"
MAX_MESSAGE_CHARS = 220


def schema_problems(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    for manifest in manifests:
        key = (manifest.get("apiVersion"), manifest.get("kind"))
        validator = validators().get(key)
        if validator is None:
            yield problem(manifest, f"no schema for kind {key[1]} of apiVersion {key[0]}")
            continue
        for error in validator.iter_errors(manifest):
            yield problem(manifest, _message(error), list(error.absolute_path))
    for pod in pod_templates(manifests):
        if pod.owner.get("kind") == "RayService":
            for error in validators()["v1", "Pod"].iter_errors(pod.as_pod()):
                yield problem(pod.owner, _message(error), [*pod.path, *error.absolute_path])


def _message(error: ValidationError) -> str:
    # of several schemas that might fit, the deepest complaint is the one that names the fault
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.absolute_path))
    return str(error.message)[:MAX_MESSAGE_CHARS]


@cache
def validators() -> dict[tuple[Any, Any], Draft202012Validator]:
    """(apiVersion, kind) to what its manifests must fit."""
    found: dict[tuple[Any, Any], Draft202012Validator] = {}
    definitions = json.loads((SCHEMAS / "kubernetes.json").read_text())
    for name, definition in definitions.items():
        properties = definition.get("properties", {})
        for version in properties.get("apiVersion", {}).get("enum", ()):
            kind = properties["kind"]["enum"][0]
            root = {"$ref": f"#/$defs/{name}", "$defs": definitions, "required": ["apiVersion", "kind"]}
            found[version, kind] = Draft202012Validator(root)
    for path in sorted(SCHEMAS.glob("*.json")):
        if path.name != "kubernetes.json":
            data = json.loads(path.read_text())
            schema = strict(data["schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[data["apiVersion"], data["kind"]] = Draft202012Validator(schema)
    return found


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI v3 schema of a custom kind as JSON Schema that refuses unknown fields; changed in place.

    The API server fills in defaults before it validates, so a required field with a default is not required.
    """
    for node in nodes(schema):
        if node.get("x-kubernetes-int-or-string"):
            node.pop("type", None)
        if node.get("nullable") and isinstance(node.get("type"), str):
            node["type"] = [node["type"], "null"]
        properties = node.get("properties")
        if isinstance(properties, dict) and node.get("type") == "object":
            needed = node.get("required", ())
            node["required"] = [name for name in needed if "default" not in properties.get(name, {})]
            if not node.get("x-kubernetes-preserve-unknown-fields"):
                node.setdefault("additionalProperties", False)
    return schema
