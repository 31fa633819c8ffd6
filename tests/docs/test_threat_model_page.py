"""The threat model's claims can be looked up: every test and every setting that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
LINKED = {"keys.md", "limits.md", "privacy.md", "jobs.md", "clips-and-cache.md"}
TESTS = {path.name for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+\.py)`", PAGE))))
def test_it_names_tests_that_are_there(name: str) -> None:
    assert name in TESTS


@pytest.mark.parametrize("name", sorted(set(re.findall(r"STT_([A-Z_]+)", PAGE))))
def test_it_names_settings_that_are_there(name: str) -> None:
    assert name.lower() in Settings.model_fields


def test_every_kind_of_threat_has_its_rows() -> None:
    for letter in ("**S**", "**T**", "**R**", "**I**", "**D**", "**E**"):
        assert letter in PAGE
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`test_" in line]
    assert len(rows) >= 25
    assert all(line.count("|") == 5 for line in rows)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\((\w[\w-]*\.md)\)", PAGE))))
def test_its_links_lead_somewhere(name: str) -> None:
    assert (ROOT / "docs" / name).is_file()
