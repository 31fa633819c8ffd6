"""Types to JSON Schema components, under names that do not collide between protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, inspect, structs

from sotto_client.wire import Written

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
        names = {name: prefix + name for name in found}
        written = _written_in(record)
        for name, component in found.items():
            explained = _explained(component)
            if name in written:
                explained = _as_written(explained, written[name])
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

    def _named(self, node: Any, names: Mapping[str, str]) -> Any:
        if isinstance(node, list):
            return [self._named(item, names) for item in node]
        if isinstance(node, dict):
            return {key: self._named(item, names) for key, item in node.items() if key not in self._dropped}
        if isinstance(node, str) and node.startswith(_PREFIX):
            return _PREFIX + names[node.removeprefix(_PREFIX)]
        return node


def _written_in(record: Any) -> dict[str, type[Written]]:
    """The structs that a server writes, `record` itself and those in it, by their names."""
    seen: dict[str, type[Any]] = {}

    def visit(node: Any) -> None:
        match node:
            case inspect.StructType(cls=cls, fields=fields) if cls.__name__ not in seen:
                seen[cls.__name__] = cls
                for one in fields:
                    visit(one.type)
            case inspect.UnionType(types=types):
                for option in types:
                    visit(option)
            case inspect.Metadata(type=inner):
                visit(inner)
            case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner):
                visit(inner)
            case inspect.DictType(value_type=inner):
                visit(inner)

    visit(inspect.type_info(record))
    return {name: cls for name, cls in seen.items() if issubclass(cls, Written)}


def _as_written(component: Schema, record: type[Written]) -> Schema:
    """It has no other fields, and all of its own but those that may be UNSET."""
    left_out = {one.encode_name for one in structs.fields(record) if one.default is UNSET}
    properties = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in component["properties"].items()
    }
    required = [name for name in properties if name not in left_out]
    return {**component, "properties": properties, "required": required, "additionalProperties": False}


def _explained(component: Schema) -> Schema:
    """With the meanings of its fields outside their alternatives, and its docstring on one line."""
    explained = dict(component)
    if "description" in explained:
        explained["description"] = " ".join(explained["description"].split())
    if "properties" in explained:
        explained["properties"] = {
            name: _with_meaning_outside(field) for name, field in explained["properties"].items()
        }
    return explained


def _with_meaning_outside(field: Schema) -> Schema:
    """A field that may be null with its description as its own, not as that of its one other type."""
    match field:
        case {"anyOf": [{"description": meaning, **option}, {"type": "null"}]}:
            return {"description": meaning} | field | {"anyOf": [option, {"type": "null"}]}
    return field


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
