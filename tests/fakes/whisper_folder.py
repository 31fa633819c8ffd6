"""Small folders with the shape of a CTranslate2 Whisper model, and installed packages that carry one."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from serve_app.models.registry import FilePart, ModelSpec, PackagedFile

NUM_LANGUAGES = 99


def _string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def model_bin(num_mels: int = 80, spec_name: str = "WhisperSpec", ballast_bytes: int = 0) -> bytes:
    """A version 6 model.bin that holds the first convolution (one channel) and one blob."""
    shape = (1, num_mels, 3)
    weights = bytes(2 * num_mels * 3)
    first = struct.pack("<B3IBI", 3, *shape, 4, len(weights)) + weights
    blob = bytes(index % 251 for index in range(ballast_bytes))
    second = struct.pack("<BIBI", 1, len(blob), 1, len(blob)) + blob
    return (
        struct.pack("<I", 6)
        + _string(spec_name)
        + struct.pack("<II", 3, 2)
        + _string("encoder/conv1/weight")
        + first
        + _string("encoder/blob")
        + second
        + struct.pack("<I", 0)
    )


def model_files(*, multilingual: bool = True, num_mels: int = 80, ballast_bytes: int = 0) -> dict[str, bytes]:
    """File name to contents of a sound folder."""
    config = {
        "alignment_heads": [[1, 0]],
        "lang_ids": list(range(NUM_LANGUAGES)),
        "suppress_ids": [1],
        "suppress_ids_begin": [2],
    }
    files = {
        "model.bin": model_bin(num_mels, ballast_bytes=ballast_bytes),
        "config.json": json.dumps(config).encode(),
        "vocabulary.json": json.dumps(["a", "b", *([""] if multilingual else [])]).encode(),
        "tokenizer.json": json.dumps({"model": {"type": "BPE"}}).encode(),
    }
    if num_mels != 80:
        files["preprocessor_config.json"] = json.dumps({"feature_size": num_mels}).encode()
    return files


def write_model(folder: Path, *, multilingual: bool = True, num_mels: int = 80) -> Path:
    """A sound folder on disk."""
    folder.mkdir(parents=True)
    for name, data in model_files(multilingual=multilingual, num_mels=num_mels).items():
        (folder / name).write_bytes(data)
    return folder


def install_package(site: Path, name: str, files: dict[str, bytes]) -> None:
    """What an installer leaves behind for a wheel with these files; `site` goes on `sys.path`."""
    module = name.replace("-", "_")
    for path, data in files.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    record = [*files, f"{info.name}/METADATA", f"{info.name}/RECORD"]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in record))


def install_split_model(site: Path, *, ballast_bytes: int = 0) -> ModelSpec:
    """A model over two packages, the weights in two parts as registries' size limits force it."""
    files = model_files(ballast_bytes=ballast_bytes)
    weights = files["model.bin"]
    cut = len(weights) // 2
    install_package(site, "fake-weights-1", {"fake_weights_1/data/model.bin.part1": weights[:cut]})
    rest = {f"fake_weights_2/data/{name}": data for name, data in files.items() if name != "model.bin"}
    install_package(site, "fake-weights-2", {"fake_weights_2/data/model.bin.part2": weights[cut:], **rest})
    parts = {
        name: (FilePart("fake-weights-2", f"fake_weights_2/data/{name}"),)
        for name in files
        if name != "model.bin"
    }
    parts["model.bin"] = (
        FilePart("fake-weights-1", "fake_weights_1/data/model.bin.part1"),
        FilePart("fake-weights-2", "fake_weights_2/data/model.bin.part2"),
    )
    packaged = tuple(
        PackagedFile(name, len(data), hashlib.sha256(data).hexdigest(), parts[name])
        for name, data in files.items()
    )
    return ModelSpec("fake-split", "someone/fake-split", 1, packaged_files=packaged)
