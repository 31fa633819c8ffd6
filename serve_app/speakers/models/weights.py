"""The files of the built-in speaker models, out of an installed package whose code is never imported.

`segmentation-3.0` (MIT, CNRS; Plaquet and Bredin 2023, "Powerset multi-class cross entropy loss for neural
speaker diarization") says who speaks when within ten seconds; CAM++ (Apache 2.0, 3D-Speaker) turns a stretch
of speech into a voice's embedding.
"""

from __future__ import annotations

from pathlib import Path

from serve_app.errors import ModelUnavailable
from serve_app.models.packages import PackageMissing, checked_file
from serve_app.models.registry import SPEAKER_ENCODER, SPEAKER_SEGMENTATION, DataFile


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
