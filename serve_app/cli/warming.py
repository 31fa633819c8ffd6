"""A model loaded and warmed up as the service does it."""

from __future__ import annotations

from pathlib import Path

from serve_app.asr.jobs import ModelInfo


def load_and_warm(
    name: str, path: Path, device: str, compute_type: str, *, engine: str = "auto"
) -> ModelInfo:
    """Load the model of a folder with the service's own engine and decode once. Blocking: seconds.

    What it says is what runs: engine, device and precision as they were chosen. Raises `ModelUnavailable`.
    """
    # Imported here: engines take a second and a tenth of a gigabyte, which `list` need not pay.
    from serve_app.asr.config import HostedModel, RecogniserConfig, build_recogniser
    from serve_app.asr.jobs import Role

    config = RecogniserConfig(
        models={Role.FINAL: HostedModel(name, path)}, engine=engine, device=device, compute_type=compute_type
    )
    (info,) = build_recogniser(config).models()
    return info
