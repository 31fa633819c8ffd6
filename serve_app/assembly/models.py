"""Where the settings have models looked for: the same for the service, its planning and its commands."""

from __future__ import annotations

from collections.abc import Iterable

from serve_app.models.report import ModelFormat
from serve_app.models.resolve import ResolvedModel, resolve_model
from serve_app.settings import Settings


def find_model(
    name: str,
    settings: Settings,
    *,
    offline: bool | None = None,
    formats: Iterable[ModelFormat] = tuple(ModelFormat),
) -> ResolvedModel:
    """As `resolve_model`; `offline` None: as it was set. Blocking. Raises `ModelUnavailable`."""
    return resolve_model(
        name,
        model_dir=settings.model_dir,
        cache_dir=settings.cache_dir,
        offline=settings.offline if offline is None else offline,
        hf_token=settings.secret("hf_token"),
        hf_home=settings.hf_home,
        formats=formats,
    )
