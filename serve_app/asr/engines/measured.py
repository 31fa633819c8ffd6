"""What engines cost on this machine, as `sotto doctor` measured it: a small file in the cache.

It holds for one processor and one set of versions. Of another, of another shape or not to be read, it says
nothing, and the choice is the one without it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from serve_app.capacity.processor import this_processor
from serve_app.models.places import DEFAULT_CACHE_DIR
from serve_app.models.report import read_json

_PACKAGES = ("sotto", "ctranslate2", "onnxruntime")
_MAX_FILE_BYTES = 1 << 20

Costs = Mapping[str, float]
"""CPU seconds for a second of live audio, interims and final, by engine."""


def read_costs(folder: Path, cache_dir: Path | None) -> Costs:
    """What was measured of a model's folder here; empty: nothing."""
    kept = read_json(_file(cache_dir), _MAX_FILE_BYTES)
    if not isinstance(kept, dict) or kept.get("measured_on") != _here():
        return {}
    models = kept.get("models")
    costs = models.get(str(folder.resolve())) if isinstance(models, dict) else None
    if not isinstance(costs, dict):
        return {}
    return {
        name: float(cost)
        for name, cost in costs.items()
        if isinstance(cost, int | float) and not isinstance(cost, bool) and cost > 0
    }


def write_costs(costs: Mapping[Path, Costs], cache_dir: Path | None) -> None:
    """Keep what was measured of these folders, in place of what was known. Raises OSError."""
    models = {str(folder.resolve()): dict(each) for folder, each in costs.items()}
    file = _file(cache_dir)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as made:
        json.dump({"measured_on": _here(), "models": models}, made, indent=2)
    os.replace(made.name, file)


def _file(cache_dir: Path | None) -> Path:
    return (cache_dir or DEFAULT_CACHE_DIR).expanduser() / "engines.json"


def _here() -> dict[str, str]:
    return {"processor": str(this_processor()), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
