"""The files of the built-in speaker models, and what to set before pyannote.audio is imported.

The files are taken out of an installed package whose code is never imported. `segmentation-3.0` (MIT, CNRS;
Plaquet and Bredin 2023, "Powerset multi-class cross entropy loss for neural speaker diarization") says who
speaks when within ten seconds; CAM++ (Apache 2.0, 3D-Speaker) turns a stretch of speech into a voice's
embedding.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from serve_app.core.errors import ModelUnavailable
from serve_app.models.packages import PackageMissing, checked_file
from serve_app.models.registry import SPEAKER_ENCODER, SPEAKER_SEGMENTATION, DataFile


def quiet_pyannote() -> None:
    """Telemetry off, for this process and its children; call it before any import of pyannote.audio."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"


def forbid_hub() -> None:
    """No call to the hub out of this process, by no library; call it before any import of one."""
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


def segmentation_path() -> Path:
    """pyannote's `segmentation-3.0` checkpoint. Raises `ModelUnavailable` where it is missing or changed."""
    return _path(SPEAKER_SEGMENTATION)


def encoder_path() -> Path:
    """CAM++'s state dict. Raises `ModelUnavailable` where it is missing or changed."""
    return _path(SPEAKER_ENCODER)


def _path(file: DataFile) -> Path:
    try:
        return checked_file(file)
    except PackageMissing as error:
        raise ModelUnavailable(
            f"{error}: `make speakers` installs the models that tell speakers apart"
        ) from error
