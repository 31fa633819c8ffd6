"""What to say before pyannote.audio is imported: it counts its use over the network unless told not to."""

from __future__ import annotations

import os

from serve_app.errors import ModelUnavailable

HUB_OFFLINE = "HF_HUB_OFFLINE"


def quiet_pyannote() -> None:
    """Telemetry off, for this process and its children; call it before any import of pyannote.audio."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"


def forbid_hub() -> None:
    """No call to the hub out of this process, whatever a library would like; before any import of it."""
    os.environ[HUB_OFFLINE] = "1"


def require_pyannote() -> None:
    """Raises `ModelUnavailable`, with what installs it, where pyannote.audio is not there."""
    from importlib.util import find_spec

    if find_spec("pyannote") is None or find_spec("pyannote.audio") is None:
        raise ModelUnavailable("pyannote.audio is not installed: `make speakers` installs it")
