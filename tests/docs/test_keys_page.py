"""docs/keys.md: its table is that of the doors, its settings, commands and links exist."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from serve_app.access.caller import Scope
from serve_app.cli.app import app
from serve_app.settings import Settings
from serve_app.web.access_table import access_table
from serve_app.web.door_table import doors_of

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()


def test_its_table_of_doors_is_that_of_the_doors() -> None:
    table = access_table(doors_of())
    assert table in PAGE, "put what `python -m serve_app.web.access_table` prints into docs/keys.md"
    for door in doors_of():
        assert f"`{door}`" in table


def test_it_names_every_scope_and_only_settings_that_exist() -> None:
    assert re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE)[: len(Scope)] == list(Scope)
    named = {name.lower() for name in re.findall(r"STT_(\w+)", PAGE)}
    assert named <= set(Settings.model_fields)
    assert {"keys_file", "keys_in_redis", "keys_in_address", "allow_anonymous", "metrics_need_key"} <= named


def test_it_names_every_option_of_a_key() -> None:
    said = CliRunner().invoke(app, ["keys", "create", "--help"], env={"COLUMNS": "200"}).stdout
    options = set(re.findall(r"--[a-z-]+", said)) - {"--help"}
    assert options <= set(re.findall(r"--[a-z-]+", PAGE))


def test_its_lines_are_short_enough_to_read() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 120 and not line.startswith("|")] == []
