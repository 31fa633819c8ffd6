"""What other installed packages bring: objects found by the name of an entry point, in groups of ours."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from serve_app.core.errors import ModelUnavailable


def find_installed(name: str, *groups: str) -> EntryPoint | None:
    """The entry point of this name in the first of the groups that has it; imports nothing of it."""
    found = (entry for group in groups for entry in entry_points(group=group))
    return next((entry for entry in found if entry.name.lower() == name), None)


def installed_names(*groups: str) -> set[str]:
    """The names that can be asked for in these groups, in lower case."""
    return {entry.name.lower() for group in groups for entry in entry_points(group=group)}


def load_installed(entry: EntryPoint) -> Any:
    """What it names. Raises `ModelUnavailable` where that cannot be imported."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ModelUnavailable(f"{entry.name} ({entry.value}) cannot be imported: {error}") from error
