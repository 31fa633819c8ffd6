"""Is a folder a Whisper model in Hugging Face's format: config.json and safetensors, for torch and mlx?

Only headers are read. Every number in them is checked against the bytes that are there: a folder may come
from anywhere.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from serve_app.models.report import (
    DEFAULT_NUM_MELS,
    FolderReport,
    ModelFormat,
    Problem,
    check_tokenizer,
    read_json,
    read_object,
)

WEIGHTS_NAME = "model.safetensors"
SHARD_INDEX_NAME = "model.safetensors.index.json"
MULTILINGUAL_VOCABULARY_SIZE = 51_865

_UNLOADABLE = "the model cannot be loaded"
_MAX_HEADER_BYTES = 16 << 20
_MAX_SHARDS = 64
_MAX_RANK = 8
_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_SIZES = {
    "d_model": 16_384,
    "encoder_layers": 256,
    "decoder_layers": 256,
    "encoder_attention_heads": 1_024,
    "decoder_attention_heads": 1_024,
    "vocab_size": 1_000_000,
    "num_mel_bins": 1_024,
}
"""Keys of config.json that give the shape, and the largest value that is taken for one."""


def is_huggingface(path: Path) -> bool:
    """Whether the weights are safetensors; with model.bin beside them a folder is CTranslate2's."""
    if (path / "model.bin").is_file():
        return False
    return (path / WEIGHTS_NAME).is_file() or (path / SHARD_INDEX_NAME).is_file()


def inspect_huggingface(path: Path) -> FolderReport:
    """What is wrong with the folder, and what the model can do."""
    problems: list[Problem] = []
    config = read_object(path / "config.json", problems, _UNLOADABLE) or {}
    sizes = _sizes(config, problems) if config else {}
    generation = _generation(path / "generation_config.json", config, problems)
    num_spoken = check_tokenizer(path / "tokenizer.json", problems)
    multilingual = bool(
        generation.get("is_multilingual", sizes.get("vocab_size", 0) >= MULTILINGUAL_VOCABULARY_SIZE)
    )
    lang_to_id = generation.get("lang_to_id")
    num_languages = len(lang_to_id) if isinstance(lang_to_id, dict) else num_spoken
    _check_weights(path, sizes, problems)
    return FolderReport(
        problems=tuple(problems),
        multilingual=multilingual,
        num_mels=sizes.get("num_mel_bins", DEFAULT_NUM_MELS),
        num_languages=num_languages if multilingual else 1,
        format=ModelFormat.HUGGINGFACE,
    )


# -- JSON ------------------------------------------------------------------------------------------


def _sizes(config: Mapping[str, object], problems: list[Problem]) -> dict[str, int]:
    """The shape that config.json gives; empty with a problem noted where it gives none."""
    kind = config.get("model_type")
    if kind != "whisper":
        problems.append(Problem(f"config.json is of a {repr(kind)[:40]} model, not Whisper: {_UNLOADABLE}"))
        return {}
    sizes: dict[str, int] = {}
    for key, largest in _SIZES.items():
        value = config.get(key, DEFAULT_NUM_MELS if key == "num_mel_bins" else None)
        if type(value) is not int or not 1 <= value <= largest:
            problems.append(Problem(f"config.json has no usable {key}: {_UNLOADABLE}"))
            return {}
        sizes[key] = value
    if any(sizes["d_model"] % sizes[f"{side}_attention_heads"] for side in ("encoder", "decoder")):
        problems.append(Problem(f"config.json has attention heads that do not divide d_model: {_UNLOADABLE}"))
        return {}
    return sizes


def _generation(file: Path, config: Mapping[str, object], problems: list[Problem]) -> dict[str, object]:
    """What the folder says of decoding; older folders say it in config.json."""
    own: dict[str, object] = {}
    if file.is_file():
        own = read_object(file, problems, "how to decode is unknown") or {}
    generation = {**config, **own}
    missing = {
        "alignment_heads": "word times are less exact",
        "suppress_tokens": "symbols such as music notes may be written",
        "begin_suppress_tokens": "an answer may begin with a blank",
    }
    for key, effect in missing.items():
        if not generation.get(key):
            problems.append(Problem(f"{file.name} lacks {key}: {effect}", fatal=False))
    return generation


# -- weights ---------------------------------------------------------------------------------------


def _check_weights(path: Path, sizes: Mapping[str, int], problems: list[Problem]) -> None:
    try:
        shapes: dict[str, tuple[int, ...]] = {}
        for file in shard_files(path):
            shapes.update(_named_shapes(file))
        if sizes:
            _check_shapes(shapes, sizes)
    except (ValueError, OSError) as error:
        problems.append(Problem(f"{error}: {_UNLOADABLE}"))


def shard_files(path: Path) -> list[Path]:
    """The files with the weights, none of them outside of the folder. Raises `ValueError`."""
    if (path / WEIGHTS_NAME).is_file():
        return [path / WEIGHTS_NAME]
    index = read_json(path / SHARD_INDEX_NAME, _MAX_HEADER_BYTES)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    names = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else set()
    if not 1 <= len(names) <= _MAX_SHARDS:
        raise ValueError(f"{SHARD_INDEX_NAME} names {len(names)} files, expected 1 to {_MAX_SHARDS}")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or "\0" in name:
            raise ValueError(f"{SHARD_INDEX_NAME} names {name[:80]!r}, which is no file of this folder")
        if not (path / name).is_file():
            raise ValueError(f"{name[:80]} is missing")
    return [path / name for name in sorted(names)]


def _named_shapes(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    try:
        for name, shape in _shapes(file):
            yield name.removeprefix("model."), shape
    except (ValueError, struct.error, RecursionError) as error:
        raise ValueError(f"{file.name[:80]} cannot be read ({str(error)[:120]})") from None


def _shapes(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor of a safetensors file: u64 length, JSON header, bytes."""
    size_bytes = file.stat().st_size
    with file.open("rb") as source:
        (header_bytes,) = struct.unpack("<Q", source.read(8))
        if header_bytes > min(_MAX_HEADER_BYTES, size_bytes - 8):
            raise ValueError("its header is cut short or too long")
        header = json.loads(source.read(header_bytes))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    body_bytes, last = size_bytes - 8 - header_bytes, 0
    for name, entry in header.items():
        if name != "__metadata__":
            shape, end = _tensor(entry, body_bytes)
            last = max(last, end)
            yield name, shape
    if last != body_bytes:
        raise ValueError("it has bytes that belong to no tensor")


def _tensor(entry: object, body_bytes: int) -> tuple[tuple[int, ...], int]:
    kind = entry.get("dtype") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(kind, str) or kind not in _FLOAT_BYTES:
        raise ValueError("a tensor is not of floats")
    shape, offsets = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= body_bytes:
        raise ValueError("it is cut short")
    if math.prod(shape) * _FLOAT_BYTES[kind] != offsets[1] - offsets[0]:
        raise ValueError("a tensor has not as many bytes as its shape asks for")
    return shape, offsets[1]


def _counts(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MAX_RANK:
        raise ValueError("a tensor's description is malformed")
    if not all(type(number) is int and 0 <= number < 2**63 for number in value):
        raise ValueError("a tensor's description is malformed")
    return tuple(value)


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]) -> None:
    """The ends of the model, and that no layer is missing; the rest is left to the engine."""
    width = sizes["d_model"]
    expected: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (width, sizes["num_mel_bins"], 3),
        "decoder.embed_tokens.weight": (sizes["vocab_size"], width),
    }
    for side in ("encoder", "decoder"):
        for layer in range(sizes[f"{side}_layers"]):
            expected[f"{side}.layers.{layer}.self_attn.q_proj.weight"] = (width, width)
    wrong = (name for name, shape in expected.items() if shapes.get(name) != shape)
    for name in islice(wrong, 1):
        found = f"has the shape {shapes[name]}" if name in shapes else "is missing"
        raise ValueError(f"{name} {found}, config.json asks for {expected[name]}")
