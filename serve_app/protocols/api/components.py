"""Types to JSON Schema components, under names that do not collide between protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from serve_app.protocols.api.meanings import MEANINGS

Schema: TypeAlias = dict[str, Any]

_PREFIX: Final = "#/components/schemas/"


class Components:
    """The schemas that one document refers to, collected while it is written.

    `discriminators` False leaves out OpenAPI's keyword, which AsyncAPI has in another shape.
    """

    def __init__(self, *, discriminators: bool = True) -> None:
        self.schemas: dict[str, Schema] = {}
        self._dropped = frozenset() if discriminators else frozenset({"discriminator"})

    def schema(self, record: Any, prefix: str = "") -> Schema:
        """The schema of `record`; its structs become components named `prefix` and their own name.

        A tuple means any of its records. Raises `ValueError` where one name would mean two things.
        """
        if isinstance(record, tuple):
            return {"anyOf": [self.schema(one, prefix) for one in record]}
        (schema,), found = msgspec.json.schema_components([record], ref_template=_PREFIX + "{name}")
        names = {name: prefix + name.lstrip("_") for name in found}
        for name, component in found.items():
            explained = _explained(component, MEANINGS.get(name, {}))
            named: Schema = self._named(explained, names) | {"title": names[name]}
            if self.schemas.setdefault(names[name], named) != named:
                raise ValueError(f"two different types are called {names[name]}")
        renamed: Schema = self._named(schema, names)
        return renamed

    def fields(self, record: Any, prefix: str = "") -> tuple[dict[str, Schema], frozenset[str]]:
        """The properties of a struct, null left out, and which are required; it becomes no component."""
        before = set(self.schemas)
        name = self.schema(record, prefix)["$ref"].removeprefix(_PREFIX)
        component = self.schemas[name] if name in before else self.schemas.pop(name)
        properties = {name: _without_null(field) for name, field in component["properties"].items()}
        return properties, frozenset(component["required"])

    @staticmethod
    def meanings(record: Any) -> Mapping[str, str]:
        """What the fields of `record` mean, as far as it is written down."""
        return MEANINGS.get(record.__name__, {})

    def _named(self, node: Any, names: Mapping[str, str]) -> Any:
        if isinstance(node, list):
            return [self._named(item, names) for item in node]
        if isinstance(node, dict):
            return {key: self._named(item, names) for key, item in node.items() if key not in self._dropped}
        if isinstance(node, str) and node.startswith(_PREFIX):
            return _PREFIX + names[node.removeprefix(_PREFIX)]
        return node


def _explained(component: Schema, meanings: Mapping[str, str]) -> Schema:
    """With the meanings of its fields, and its docstring on one line."""
    explained = dict(component)
    if "description" in explained:
        explained["description"] = " ".join(explained["description"].split())
    if "properties" in explained:
        explained["properties"] = {
            name: {**field, "description": meanings[name]} if name in meanings else field
            for name, field in explained["properties"].items()
        }
    return explained


def _without_null(field: Schema) -> Schema:
    """A field of a form or an address: it is given or not, but never null."""
    options = [option for option in field.get("anyOf", []) if option != {"type": "null"}]
    if not options:
        return field
    rest = {key: value for key, value in field.items() if key != "anyOf"}
    if rest.get("default", 0) is None:
        del rest["default"]
    plain: Schema = (options[0] if len(options) == 1 else {"anyOf": options}) | rest
    return plain
