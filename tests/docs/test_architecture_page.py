"""docs/architecture.md: its floors are those of the import rules, its links and rooms exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "architecture.md").read_text()


def floors_of_the_rules() -> list[set[str]]:
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["serve_app"])
    return [set(re.split(r"\W+", layer)) for layer in layers]


def test_its_floors_are_those_of_the_import_rules() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", rooms)) for _, rooms in rows] == floors_of_the_rules()
    assert [int(floor) for floor, _ in rows] == list(range(len(rows), 0, -1))


def test_no_room_is_left_out() -> None:
    rooms = {path.parent.name for path in (CHECKOUT / "serve_app").glob("*/__init__.py")}
    assert set().union(*floors_of_the_rules()) == rooms


def test_it_is_one_page() -> None:
    lines = PAGE.splitlines()
    assert len(lines) <= 100
    assert [line for line in lines if len(line) > 125 and not line.startswith("|")] == []
