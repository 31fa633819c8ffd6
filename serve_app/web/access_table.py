"""Which key each door asks for: the table of docs/keys.md, printed by `python -m
serve_app.web.access_table`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from serve_app.access.caller import Scope
from serve_app.protocols.doors import Channel, Described, Operation
from serve_app.web.door_table import doors_of


def access_table(doors: Iterable[Described]) -> str:
    """Markdown: a row for each kind of key, the open doors first."""
    rows: dict[str, list[str]] = {}
    for door in doors:
        rows.setdefault(_asked(door), []).append(f"`{door}`")
    lines = ["| key | doors |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {asked} | {', '.join(rows[asked])} |" for asked in _order(rows))]) + "\n"


def _asked(door: Described) -> str:
    if isinstance(door, Operation) and not door.needs_key:
        return "none; metrics with `metrics_need_key`" if door.scope is Scope.METRICS else "none"
    asked = "any" if door.scope is None else f"{door.scope}"
    makes_keys = not isinstance(door, Channel) and not door.takes_tokens
    return f"{asked}, no token" if makes_keys else asked


def _order(rows: dict[str, list[str]]) -> Iterator[str]:
    yield from sorted(rows, key=lambda asked: (not asked.startswith("none"), asked))


if __name__ == "__main__":
    print(access_table(doors_of()), end="")
