"""Which engine runs a model here, and the engine itself.

| engine | hardware | chosen by itself |
| --- | --- | --- |
| mlx | Apple silicon | always there, where it is installed |
| ctranslate2 | NVIDIA cards, CPUs | everywhere else, for CTranslate2 folders |
| torch | NVIDIA cards, Apple silicon, CPUs | for Hugging Face folders, and where attention is needed |
"""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from serve_app.asr.engines.base import Engine
from serve_app.errors import ModelUnavailable

EngineName: TypeAlias = Literal["ctranslate2", "torch", "mlx"]

HOW_TO_INSTALL = "install it with `make engines`"


def is_installed(engine: EngineName) -> bool:
    """Whether the package that an engine stands on is there; imports nothing."""
    module = {"ctranslate2": "ctranslate2", "torch": "torch", "mlx": "mlx"}[engine]
    return find_spec(module) is not None


def choose_engine(
    wanted: str, path: Path, *, device: str = "auto", needs_attention: bool = False
) -> EngineName:
    """The engine for a folder. Raises `ModelUnavailable` naming what is in the way."""
    converted = (path / "model.bin").is_file()
    if wanted in ("ctranslate2", "torch", "mlx"):
        if not is_installed(wanted):  # type: ignore[arg-type]
            raise ModelUnavailable(f"the engine {wanted} is not installed: {HOW_TO_INSTALL}")
        if wanted == "ctranslate2" and not converted:
            raise ModelUnavailable(f"{path} is no CTranslate2 folder: use the torch or mlx engine for it")
        return wanted  # type: ignore[return-value]
    if wanted not in ("", "auto"):
        raise ModelUnavailable(f"unknown engine {wanted!r}, expected auto, ctranslate2, torch or mlx")
    on_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if (device == "mps" or (device == "auto" and on_apple)) and is_installed("mlx"):
        return "mlx"
    if converted and device != "mps" and not needs_attention:
        return "ctranslate2"
    for other in ("torch", "mlx"):
        if is_installed(other):
            return other
    if converted and device != "mps":
        return "ctranslate2"
    reason = "device mps" if device == "mps" else f"{path}, which is no CTranslate2 folder,"
    raise ModelUnavailable(f"{reason} needs the torch or the mlx engine: {HOW_TO_INSTALL}")


def load_engine(
    engine: EngineName,
    path: Path,
    *,
    device: str = "auto",
    compute_type: str = "auto",
    num_workers: int = 1,
    threads: int = 1,
) -> Engine:
    """Load the model of a folder. Blocking: seconds. Raises `ModelUnavailable`."""
    if engine == "torch":
        from serve_app.asr.engines.torch_engine import TorchEngine

        return TorchEngine(path, device=device, compute_type=compute_type, threads=threads)
    if engine == "mlx":
        from serve_app.asr.engines.mlx_engine import MlxEngine

        return MlxEngine(path, compute_type=compute_type)
    from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine

    return CTranslate2Engine(
        path, device=device, compute_type=compute_type, num_workers=num_workers, threads=threads
    )
