"""Is a folder a Whisper model in Hugging Face's format: config.json and safetensors, for torch and mlx?

Only headers are read, and checked against the bytes that are there: a folder may come from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from serve_app.models.tensor_files import safetensors_entries

WEIGHTS_NAME = "model.safetensors"
SHARD_INDEX_NAME = "model.safetensors.index.json"
MULTILINGUAL_VOCABULARY_SIZE = 51_865

_UNLOADABLE = "the model cannot be loaded"
_MAX_INDEX_BYTES = 16 << 20
_MAX_SHARDS = 64
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
            shapes.update(_shapes(file))
        if sizes:
            _check_shapes(shapes, sizes)
    except (ValueError, OSError) as error:
        problems.append(Problem(f"{error}: {_UNLOADABLE}"))


def shard_files(path: Path) -> list[Path]:
    """The files with the weights, none of them outside of the folder. Raises `ValueError`."""
    if (path / WEIGHTS_NAME).is_file():
        return [path / WEIGHTS_NAME]
    index = read_json(path / SHARD_INDEX_NAME, _MAX_INDEX_BYTES)
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


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        return {entry.name.removeprefix("model."): entry.shape for entry in safetensors_entries(file)}
    except ValueError as error:
        raise ValueError(f"{file.name[:80]} cannot be read ({str(error)[:120]})") from None


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
