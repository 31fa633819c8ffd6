"""A Whisper model's weights for engines of our own, from a CTranslate2 or a Hugging Face folder.

Tensors are named as Hugging Face names them, without the leading "model."; the values of a float16 model.bin
are those of the checkpoint it was made from, bit for bit. Nothing is recomputed: stored encoder positions
differ from freshly made sinusoids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from serve_app.asr.engines.ctranslate2_names import count_layers, hugging_face_names, scalar_of
from serve_app.core.errors import ModelUnavailable
from serve_app.models.huggingface import MULTILINGUAL_VOCABULARY_SIZE, is_huggingface, shard_files
from serve_app.models.report import MAX_CONFIG_BYTES, read_json
from serve_app.models.tensor_files import Tensor, read_model_bin, read_safetensors
from serve_app.models.verify import inspect_folder

FolderKind: TypeAlias = Literal["ctranslate2", "huggingface"]

_ATTENTIONS = {"encoder": ("self_attn",), "decoder": ("self_attn", "encoder_attn")}


@dataclass(frozen=True, slots=True)
class WhisperShape:
    """A model's dimensions, and what its folder says of its use.

    `alignment_heads`: (decoder layer, head) whose attention follows the audio; where the folder names none,
    all heads of the decoder's last half. `suppress_ids` never come, `suppress_ids_begin` not first.
    """

    num_mels: int
    vocabulary_size: int
    width: int
    num_encoder_layers: int
    num_decoder_layers: int
    num_encoder_heads: int
    num_decoder_heads: int
    num_text_positions: int
    num_audio_positions: int
    alignment_heads: tuple[tuple[int, int], ...]
    suppress_ids: tuple[int, ...]
    suppress_ids_begin: tuple[int, ...]
    multilingual: bool


@dataclass(frozen=True, slots=True)
class WhisperWeights:
    """`tensors` are read-only, of any float type, perhaps unaligned views of a mapped file: copy them."""

    shape: WhisperShape
    tensors: Mapping[str, Tensor]


def folder_kind(path: Path) -> FolderKind:
    """Which of the two a model folder is. Raises `ModelUnavailable` where it is neither."""
    if (path / "model.bin").is_file():
        return "ctranslate2"
    if is_huggingface(path):
        return "huggingface"
    raise ModelUnavailable(f"{path} holds no Whisper model: neither model.bin nor model.safetensors is there")


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json of a model folder. Raises `ModelUnavailable` where there is none."""
    file = path / "tokenizer.json"
    if not file.is_file():
        raise ModelUnavailable(f"the model folder {path} has no tokenizer.json")
    return file


def read_weights(path: Path) -> WhisperWeights:
    """Read a model folder of either kind; the files are mapped, so this takes time and memory only where
    values are not stored as floats.

    Raises `ModelUnavailable` for a folder that is incomplete, cut short, forged or no Whisper model.
    """
    kind = folder_kind(path)
    try:
        weights = _read_ctranslate2(path) if kind == "ctranslate2" else _read_hugging_face(path)
        _check_tensors(weights)
    except (ValueError, OSError, RecursionError) as error:
        raise ModelUnavailable(f"the weights in {path} cannot be read: {error}") from error
    return weights


# -- CTranslate2 -----------------------------------------------------------------------------------


def _read_ctranslate2(path: Path) -> WhisperWeights:
    variables = read_model_bin(path / "model.bin")
    config = _read_object(path / "config.json")
    tensors = hugging_face_names(variables)
    shape = _shape_of(
        tensors,
        num_encoder_heads=scalar_of(variables, "encoder/num_heads"),
        num_decoder_heads=scalar_of(variables, "decoder/num_heads"),
        # CTranslate2's own test of a multilingual model: does the vocabulary hold the empty token?
        multilingual=inspect_folder(path).multilingual,
        alignment_heads=config.get("alignment_heads"),
        suppress_ids=config.get("suppress_ids"),
        suppress_ids_begin=config.get("suppress_ids_begin"),
    )
    return WhisperWeights(shape, tensors)


# -- Hugging Face ----------------------------------------------------------------------------------


def _read_hugging_face(path: Path) -> WhisperWeights:
    config = _read_object(path / "config.json")
    generation_file = path / "generation_config.json"
    # Older folders have it all in config.json.
    generation = config | (_read_object(generation_file) if generation_file.is_file() else {})
    tensors = {
        name.removeprefix("model."): tensor
        for file in shard_files(path)
        # The projection to the vocabulary is the embedding itself.
        for name, tensor in read_safetensors(file, lambda name: not name.startswith("proj_out.")).items()
    }
    vocabulary = tensors.get("decoder.embed_tokens.weight")
    vocabulary_size = len(vocabulary) if vocabulary is not None and vocabulary.ndim else 0
    shape = _shape_of(
        tensors,
        num_encoder_heads=config.get("encoder_attention_heads"),
        num_decoder_heads=config.get("decoder_attention_heads"),
        multilingual=bool(generation.get("is_multilingual", vocabulary_size >= MULTILINGUAL_VOCABULARY_SIZE)),
        alignment_heads=generation.get("alignment_heads"),
        suppress_ids=generation.get("suppress_tokens"),
        suppress_ids_begin=generation.get("begin_suppress_tokens"),
    )
    return WhisperWeights(shape, tensors)


# -- both ------------------------------------------------------------------------------------------


def _read_object(file: Path) -> dict[str, Any]:
    value = read_json(file, MAX_CONFIG_BYTES)
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} is missing or no JSON object")
    return value


def _shape_of(
    tensors: Mapping[str, Tensor],
    *,
    num_encoder_heads: object,
    num_decoder_heads: object,
    multilingual: bool,
    alignment_heads: object,
    suppress_ids: object,
    suppress_ids_begin: object,
) -> WhisperShape:
    _, num_mels, _ = _size(tensors, "encoder.conv1.weight", 3)
    num_audio_positions, width = _size(tensors, "encoder.embed_positions.weight", 2)
    num_text_positions, _ = _size(tensors, "decoder.embed_positions.weight", 2)
    vocabulary_size, _ = _size(tensors, "decoder.embed_tokens.weight", 2)
    num_decoder_layers = count_layers(tensors, r"decoder\.layers\.(\d+)\.")
    decoder_heads = _heads(num_decoder_heads, width)
    return WhisperShape(
        num_mels=num_mels,
        vocabulary_size=vocabulary_size,
        width=width,
        num_encoder_layers=count_layers(tensors, r"encoder\.layers\.(\d+)\."),
        num_decoder_layers=num_decoder_layers,
        num_encoder_heads=_heads(num_encoder_heads, width),
        num_decoder_heads=decoder_heads,
        num_text_positions=num_text_positions,
        num_audio_positions=num_audio_positions,
        alignment_heads=_alignment_heads(alignment_heads, num_decoder_layers, decoder_heads),
        suppress_ids=_ids(suppress_ids, vocabulary_size),
        suppress_ids_begin=_ids(suppress_ids_begin, vocabulary_size),
        multilingual=multilingual,
    )


def _size(tensors: Mapping[str, Tensor], name: str, rank: int) -> tuple[int, ...]:
    if name not in tensors or tensors[name].ndim != rank:
        raise ValueError(f"{name} is missing or has not {rank} dimensions")
    return tensors[name].shape


def _heads(value: object, width: int) -> int:
    if type(value) is not int or not 1 <= value <= width or width % value:
        raise ValueError(f"{value!r:.40} attention heads do not divide a width of {width}")
    return value


def _alignment_heads(value: object, num_layers: int, num_heads: int) -> tuple[tuple[int, int], ...]:
    if not value:
        return tuple(
            (layer, head) for layer in range(num_layers // 2, num_layers) for head in range(num_heads)
        )
    if not isinstance(value, list) or not all(_is_head(pair, num_layers, num_heads) for pair in value):
        raise ValueError(f"alignment_heads are not among {num_layers} layers of {num_heads} heads")
    return tuple(dict.fromkeys((pair[0], pair[1]) for pair in value))


def _is_head(pair: object, num_layers: int, num_heads: int) -> bool:
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(number) is int for number in pair):
        return False
    return bool(0 <= pair[0] < num_layers and 0 <= pair[1] < num_heads)


def _ids(value: object, vocabulary_size: int) -> tuple[int, ...]:
    """Token ids; those outside of the vocabulary (-1 stands for a default elsewhere) are left out."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError("suppressed ids are no list")
    return tuple(sorted({i for i in value if type(i) is int and 0 <= i < vocabulary_size}))


def _check_tensors(weights: WhisperWeights) -> None:
    """Raise `ValueError` for the first tensor that is missing or not as large as the others ask for."""
    for name, expected in _expected(weights.shape, weights.tensors):
        tensor = weights.tensors.get(name)
        if tensor is None:
            raise ValueError(f"{name} is missing")
        if tensor.shape != expected:
            raise ValueError(f"{name} has the shape {tensor.shape}, expected {expected}")


def _expected(shape: WhisperShape, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[int, ...]]]:
    width = shape.width
    yield "encoder.conv1.weight", (width, shape.num_mels, 3)
    yield "encoder.conv1.bias", (width,)
    yield "encoder.conv2.weight", (width, width, 3)
    yield "encoder.conv2.bias", (width,)
    yield "decoder.embed_tokens.weight", (shape.vocabulary_size, width)
    yield "decoder.embed_positions.weight", (shape.num_text_positions, width)
    sides = (("encoder", shape.num_encoder_layers), ("decoder", shape.num_decoder_layers))
    for side, num_layers in sides:
        norms = [f"{side}.layer_norm"]
        for prefix in (f"{side}.layers.{i}" for i in range(num_layers)):
            norms.append(f"{prefix}.final_layer_norm")
            for attention in _ATTENTIONS[side]:
                norms.append(f"{prefix}.{attention}_layer_norm")
                for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    yield f"{prefix}.{attention}.{name}.weight", (width, width)
                    if name != "k_proj":
                        yield f"{prefix}.{attention}.{name}.bias", (width,)
            hidden, _ = _size(tensors, f"{prefix}.fc1.weight", 2)
            yield f"{prefix}.fc1.weight", (hidden, width)
            yield f"{prefix}.fc1.bias", (hidden,)
            yield f"{prefix}.fc2.weight", (width, hidden)
            yield f"{prefix}.fc2.bias", (width,)
        for name in norms:
            yield f"{name}.weight", (width,)
            yield f"{name}.bias", (width,)
