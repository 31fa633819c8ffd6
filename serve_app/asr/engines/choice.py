"""Which engines there are, which one runs a model here, and what is loaded by it.

| engine | hardware | chosen by itself |
| --- | --- | --- |
| mlx | Apple silicon | always there, where it is installed |
| onnx | CPUs | on CPUs, unless another was measured to be cheaper (`measured`) |
| ctranslate2 | NVIDIA cards, CPUs | on cards, for CTranslate2 folders |
| torch | NVIDIA cards, Apple silicon, CPUs | on cards, for other folders and where attention is needed |

An installed package brings more of them through an entry point, in one of two groups: `sotto.engines` for
what runs Whisper models (its factory takes a `ModelToLoad` and returns an `Engine`), `sotto.transcribers`
for any other recogniser (its factory returns a `Transcriber`). `STT_ENGINE` takes the entry point's name.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from serve_app.asr.engines.base import Engine
from serve_app.asr.engines.measured import read_costs
from serve_app.asr.ports import ModelToLoad, Transcriber
from serve_app.core.errors import ModelUnavailable
from serve_app.core.installed import find_installed, installed_names, load_installed

ENGINES = "sotto.engines"
TRANSCRIBERS = "sotto.transcribers"
BUILT_IN = {
    name: EntryPoint(name, f"serve_app.asr.engines.{name}_engine:load", ENGINES)
    for name in ("ctranslate2", "mlx", "onnx", "torch")
}
"""Ours, each named after the package that it stands on. Another's of the same name is not looked at."""
CPU_ENGINES = ("onnx", "ctranslate2")
"""Of every installation; the first where nothing was measured."""
_PACKAGES = {"onnx": "onnxruntime"}
"""Where the package's name is another."""
AUTO = ("", "auto")
HOW_TO_INSTALL = "install it with `make engines`"


def find_engine(name: str) -> EntryPoint:
    """Where an engine's factory is; imports nothing. Raises `ModelUnavailable` naming those that are here."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if (entry := find_installed(name, ENGINES, TRANSCRIBERS)) is not None:
        return entry
    here = ", ".join(installed_engines())
    raise ModelUnavailable(f"no engine of this name is installed, expected auto or one of: {here}")


def installed_engines() -> tuple[str, ...]:
    """The names that can be asked for: ours whose packages are there, and those that other packages bring."""
    own = {name for name in BUILT_IN if is_installed(name)}
    return tuple(sorted(own | installed_names(ENGINES, TRANSCRIBERS)))


def is_installed(engine: str) -> bool:
    """Whether the package that one of our engines stands on is there; imports nothing."""
    return find_spec(_PACKAGES.get(engine, engine)) is not None


def runs_whisper(name: str) -> bool:
    """Whether an engine runs the Whisper models of our table and folders, or has models of its own."""
    return name in AUTO or find_engine(name).group == ENGINES


def choose_engine(
    wanted: str,
    path: Path,
    *,
    device: str = "auto",
    needs_attention: bool = False,
    cache_dir: Path | None = None,
) -> str:
    """The engine for a Whisper folder; `cache_dir` as for `read_costs`. Raises `ModelUnavailable` naming what
    is in the way."""
    converted = (path / "model.bin").is_file()
    if wanted not in AUTO:
        if find_engine(wanted).name in BUILT_IN and not is_installed(wanted):
            raise ModelUnavailable(f"the engine {wanted} is not installed: {HOW_TO_INSTALL}")
        if wanted == "ctranslate2" and not converted:
            raise ModelUnavailable(
                f"{path} is no CTranslate2 folder: use the onnx, torch or mlx engine for it"
            )
        return wanted
    on_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if (device == "mps" or (device == "auto" and on_apple)) and is_installed("mlx"):
        return "mlx"
    if is_on_cpu(device) and (own := engines_on_cpu(path, needs_attention=needs_attention)):
        costs = read_costs(path, cache_dir)
        # Only a comparison counts, not a figure of one of them.
        return min(own, key=lambda name: costs[name]) if costs.keys() >= set(own) else own[0]
    if converted and device != "mps" and not needs_attention:
        return "ctranslate2"
    for other in ("torch", "mlx"):
        if is_installed(other):
            return other
    if converted and device != "mps":
        return "ctranslate2"
    reason = "device mps" if device == "mps" else f"{path}, which is no CTranslate2 folder,"
    raise ModelUnavailable(f"{reason} needs the torch or the mlx engine: {HOW_TO_INSTALL}")


def is_on_cpu(device: str) -> bool:
    """Whether a device as it was set is the CPU here."""
    if device not in ("", "auto", "default", "cpu"):
        return False
    from serve_app.asr.devices import choose_device

    return choose_device(device) == "cpu"


def engines_on_cpu(path: Path, *, needs_attention: bool = False) -> list[str]:
    """Those of every installation that can run a Whisper folder on a CPU, the first where nothing was
    measured."""
    converted = (path / "model.bin").is_file()
    found = [name for name in CPU_ENGINES if is_installed(name)]
    if needs_attention or not converted:
        found = [name for name in found if name != "ctranslate2"]
    return found


def load_engine(name: str, model: ModelToLoad) -> Engine:
    """A Whisper model by the engine of this name. Blocking: seconds. Raises `ModelUnavailable`."""
    engine: Engine = load_installed(find_engine(name))(model)
    return engine


def load_transcriber(name: str, model: ModelToLoad) -> Transcriber:
    """The recogniser of this name that is no Whisper. Blocking. Raises `ModelUnavailable`."""
    transcriber: Transcriber = load_installed(find_engine(name))(model)
    return transcriber
