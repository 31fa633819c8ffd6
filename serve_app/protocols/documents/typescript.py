"""The native protocol's records as TypeScript: `python -m serve_app.protocols.documents.typescript`.

Its output is `clients/javascript/wire.d.ts`; a test fails where that file is another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve_app.protocols.documents.components import Components, Schema
from sotto_client import wire

_HEADER = """/**
 * What the server writes in its own protocol, under the names of the wire.
 *
 * Made by `python -m serve_app.protocols.documents.typescript` from clients/python/sotto_client/wire.py.
 */
"""
_SCALARS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def typescript() -> str:
    """An interface for each record, and `WireEvent` for any message of a live session."""
    components = Components(discriminators=False)
    for record in (wire.Event, wire.Heartbeat, wire.Ping, wire.Pong, wire.Transcript, wire.Detail):
        schema = components.schema(record)
        if record is wire.Event:
            events = _type(schema)
    interfaces = (_interface(name, schema) for name, schema in components.schemas.items())
    return "\n".join((_HEADER, *interfaces, f"export type WireEvent = {events};\n"))


def _interface(name: str, schema: Schema) -> str:
    return "\n".join((*_comment(schema), f"export interface {name} {{", *_members(schema), "}\n"))


def _members(schema: Schema) -> Iterator[str]:
    for name, field in schema["properties"].items():
        yield from (f"  {line}" for line in _comment(field))
        yield f"  {name}{'' if name in schema['required'] else '?'}: {_type(field)};"


def _comment(schema: Schema) -> Iterator[str]:
    if "description" in schema:
        yield f"/** {schema['description']} */"


def _type(schema: Schema) -> str:
    match schema:
        case {"$ref": reference}:
            return str(reference).rpartition("/")[2]
        case {"anyOf": options}:
            return " | ".join(map(_type, options))
        case {"enum": values}:
            return " | ".join(map(_literal, values))
        case {"type": "array", "items": items}:
            inner = _type(items)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case {"type": name}:
            return _SCALARS[name]
    raise ValueError(f"no TypeScript for {schema}")


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


if __name__ == "__main__":
    print(typescript(), end="")
