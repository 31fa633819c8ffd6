"""What to say before pyannote.audio is imported: it counts its use over the network unless told not to."""

from __future__ import annotations

import os
from importlib.util import find_spec

from serve_app.errors import ModelUnavailable


def quiet_pyannote() -> None:
    """Telemetry off, for this process and its children; call it before any import of pyannote.audio."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"


def forbid_hub() -> None:
    """No call to the hub out of this process, whatever a library would like; before any import of it."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def is_installed(module: str) -> bool:
    """Whether a package, or one within a package, is there; of `a.b` it imports `a`."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def require_pyannote() -> None:
    """Raises `ModelUnavailable`, with what installs it, where pyannote.audio is not there."""
    if not is_installed("pyannote.audio"):
        raise ModelUnavailable("pyannote.audio is not installed: `make speakers` installs it")
