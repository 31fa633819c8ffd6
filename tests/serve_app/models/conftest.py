"""Places for models, and one that comes in packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.whisper_folder import install_split_model
from serve_app.models import registry
from serve_app.models.registry import ModelSpec


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """`fake-split` in two installed packages."""
    site = tmp_path / "site"
    site.mkdir()
    spec = install_split_model(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setitem(registry._BY_NAME, "fake-split", spec)
    return spec
