"""docs/privacy.md: its tests, settings and commands are there, and its checklists leave no line out."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from serve_app.cli.app import app
from serve_app.settings.load import env_name
from serve_app.settings.model import Settings

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "privacy.md").read_text()
HIPAA = (
    *("(a)(1)", "(a)(2)(i)", "(a)(2)(ii)", "(a)(2)(iii)", "(a)(2)(iv)", "(b)", "(c)(1)", "(c)(2)", "(d)"),
    *("(e)(1)", "(e)(2)(i)", "(e)(2)(ii)"),
)
"""Every standard and implementation specification of 45 CFR 164.312."""
GDPR = ("5", "15", "17", "25", "30", "32", "33")


def rows(heading):
    section = PAGE.split(f"## Checklist: {heading}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))))
def test_the_tests_that_it_names_exist(path):
    assert (CHECKOUT / path).is_file()


@pytest.mark.parametrize("variable", sorted(set(re.findall(r"STT_\w+", PAGE))))
def test_the_settings_that_it_names_exist(variable):
    assert variable in {env_name(name) for name in Settings.model_fields}


@pytest.mark.parametrize("command", sorted(set(re.findall(r"sotto ((?:audit|privacy) [a-z]+)", PAGE))))
def test_the_commands_that_it_names_exist(command):
    group, name = command.split()
    assert name in get_command(app).commands[group].commands  # type: ignore[attr-defined]


def test_no_line_of_the_safeguards_is_left_out():
    assert [re.match(r"(?:\(\w+\))+", row[0])[0] for row in rows("HIPAA")] == list(HIPAA)


def test_no_article_is_left_out():
    assert list(dict.fromkeys(re.match(r"\d+", row[0])[0] for row in rows("GDPR"))) == list(GDPR)


@pytest.mark.parametrize("row", rows("HIPAA") + rows("GDPR"), ids=lambda row: row[0])
def test_each_line_says_what_is_here_how_it_is_tested_and_what_is_the_operators(row):
    assert len(row) == 4
    assert all(row)
    assert "tests/" in row[2]
