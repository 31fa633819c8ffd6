"""The graphs of a model on disk: written once for a folder and a precision, checked whenever they are read.

One folder in the cache holds what was made of one model folder; it is replaced when the model's files or the
way of writing change, so that the cache does not grow with every version.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import onnxruntime
import structlog

from serve_app.asr.engines.onnx_graphs import write_cross, write_decoder, write_encoder
from serve_app.asr.engines.weights import WhisperWeights, read_weights
from serve_app.core.errors import ModelUnavailable
from serve_app.models.packages import sha256_of
from serve_app.models.places import DEFAULT_CACHE_DIR
from serve_app.models.report import read_json

GRAPHS = ("encoder", "cross", "decoder")
_VERSION = 1
"""Of what `onnx_graphs` writes: another number, and the graphs are made anew."""
_RECORD = "graphs.json"
_MAX_RECORD_BYTES = 1 << 20

_log = structlog.get_logger(__name__)


def graphs_of(path: Path, compute_type: str, cache_dir: Path | None) -> Path:
    """The folder with the graphs of a model folder, written where they are not there or not whole.

    `compute_type`: float32, int8_float32 (the decoder in 8 bits) or int8 (the encoder too). Raises
    `ModelUnavailable` where the model cannot be read or the cache not written.
    """
    source = _source(path, compute_type)
    owner = hashlib.sha256(f"{path.resolve()} {compute_type}".encode()).hexdigest()[:16]
    folder = (cache_dir or DEFAULT_CACHE_DIR).expanduser() / "onnx" / owner
    if _is_whole(folder, source):
        return folder
    weights = read_weights(path)
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder, source, weights, compute_type)
    except OSError as error:
        raise ModelUnavailable(
            f"the graphs of {path} cannot be written to {folder.parent}: {error}"
        ) from error
    _log.info("wrote the graphs of a model", model=str(path), compute_type=compute_type, folder=str(folder))
    return folder


def _source(path: Path, compute_type: str) -> list[object]:
    """What the graphs are made of: they are valid as long as this is the same."""
    try:
        files = [
            [file.name, file.stat().st_size, file.stat().st_mtime_ns]
            for file in sorted(path.iterdir())
            if file.suffix in (".bin", ".safetensors", ".json") and file.is_file()
        ]
    except OSError as error:
        raise ModelUnavailable(f"the model folder {path} cannot be read: {error}") from error
    return [_VERSION, onnxruntime.__version__, compute_type, files]


def _is_whole(folder: Path, source: list[object]) -> bool:
    try:
        record = read_json(folder / _RECORD, _MAX_RECORD_BYTES)
        if not isinstance(record, dict) or record.get("source") != source:
            return False
        sums = record.get("sums")
        return sums == {file: sha256_of(folder / file) for file in _file_names()}
    except (OSError, ValueError):
        return False


def _file_names() -> Iterator[str]:
    for name in GRAPHS:
        yield f"{name}.onnx"
        yield f"{name}.data"


def _write(folder: Path, source: list[object], weights: WhisperWeights, compute_type: str) -> None:
    """In a folder beside it, which takes its name when it is whole. Another process may do the same."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with _graph(made, "encoder") as data:
            (made / "encoder.onnx").write_bytes(
                write_encoder(weights, data, "encoder.data", int8=compute_type == "int8")
            )
        with _graph(made, "cross") as data:
            (made / "cross.onnx").write_bytes(write_cross(weights, data, "cross.data"))
        with _graph(made, "decoder") as data:
            (made / "decoder.onnx").write_bytes(
                write_decoder(weights, data, "decoder.data", int8=compute_type != "float32")
            )
        sums = {file: sha256_of(made / file) for file in _file_names()}
        (made / _RECORD).write_text(json.dumps({"source": source, "sums": sums}))
        _replace(folder, made, source)
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _graph(made: Path, name: str) -> Iterator[BinaryIO]:
    with (made / f"{name}.data").open("xb") as data:
        yield data


def _replace(folder: Path, made: Path, source: list[object]) -> None:
    # Files that a running process has mapped stay until it lets go of them.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as old:
        if folder.exists():
            folder.rename(Path(old) / "old")
        try:
            made.rename(folder)
        except OSError:
            if not _is_whole(folder, source):
                raise
