"""Folders of real models; skipped, with the reason, where they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.core.errors import ModelUnavailable
from serve_app.models import resolve_model


def _folder(name: str) -> Path:
    try:
        return resolve_model(name, offline=True).path
    except ModelUnavailable as error:
        pytest.skip(f"the model {name} is not installed: {error}")


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return _folder("tiny.en")


@pytest.fixture(scope="session")
def base_folder() -> Path:
    return _folder("base")
