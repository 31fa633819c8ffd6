"""docs/operations.md and docs/troubleshooting.md name settings, metrics, commands and alerts there are."""

import re
from pathlib import Path

import pytest
import typer
import yaml

from serve_app.cli.app import app
from serve_app.settings import Settings
from serve_app.telemetry.families import FAMILIES

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
ALERTS = CHECKOUT / "k8s" / "components" / "monitoring" / "alerts.yaml"
PAGES = ("operations.md", "troubleshooting.md")
NO_SETTINGS = {"STT_ENV_FILE"}


def text_of(name):
    return (DOCS / name).read_text()


def alerts():
    groups = yaml.safe_load(ALERTS.read_text())["spec"]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def anchors(text):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_exists(page):
    names = {f"STT_{name.upper()}" for name in Settings.model_fields} | NO_SETTINGS
    named = set(re.findall(r"\bSTT_[A-Z_]+\b", text_of(page)))
    assert named
    assert named <= names


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_exists(page):
    families = {family.name for family in FAMILIES}
    assert set(re.findall(r"\b(?:stt|whisper)_[a-z_]+\b", text_of(page))) <= families


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists(page):
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for command, below in re.findall(r"\bsotto (\w+)(?: (list|info|pull|verify|warm))?", text_of(page)):
        assert command in commands
        assert not below or below in commands[command].commands


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for path, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text_of(page)):
        if "://" in path:
            continue
        target = (DOCS / path) if path else DOCS / page
        assert target.is_file(), path
        assert not anchor or anchor in anchors(target.read_text()), (path, anchor)


def test_every_alert_has_its_paragraph_and_every_paragraph_its_alert():
    page = text_of("operations.md")
    below = page[page.index("\n## Alerts\n") :]
    paragraphs = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=\n\n###|\Z)", below, re.MULTILINE | re.DOTALL))
    assert paragraphs.keys() == alerts().keys()
    assert [name for name, text in paragraphs.items() if len(text) < 100] == []


@pytest.mark.parametrize("name", alerts())
def test_every_runbook_is_where_its_alert_says(name):
    path, _, anchor = alerts()[name]["annotations"]["runbook_url"].partition("#")
    assert anchor == name.lower()
    assert anchor in anchors((CHECKOUT / path).read_text())


def test_what_the_final_queues_rule_says_is_the_default():
    limit = int(re.search(r">= (\d+)", alerts()["SottoFinalQueueFull"]["expr"])[1])
    assert limit == 0.8 * Settings().max_queue_depth
