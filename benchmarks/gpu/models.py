"""Whisper models of true shapes with random weights, for measuring speed and memory where no real ones are.

A CTranslate2 folder in float16, which CTranslate2 and our own engines read. Their text is noise; what they
cost is what the real ones cost, as long as the number of tokens is set from outside.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from serve_app.capacity.card_memory import HEAD_WIDTH
from serve_app.models.footprint import MAX_STATES, MAX_TEXT_POSITIONS, Architecture
from serve_app.models.languages import codes_of

_VERSION, _REVISION = 6, 3
_FLOAT16, _INT8, _INT16 = 4, 1, 2
_GELU = 3
_POOL_VALUES = 1 << 21
_NUM_TIMES = 1501
_TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
_CANTONESE_VOCABULARY = 51_866
_FIRST_MULTILINGUAL = 51_865


class _Variable(NamedTuple):
    """`fan_in` None: a scalar `value`, or a vector filled with it."""

    name: str
    shape: tuple[int, ...]
    kind: int
    fan_in: int | None = None
    value: float = 0.0


def write_random_model(folder: Path, shape: Architecture, *, seed: int = 0) -> Path:
    """Write model.bin and the files beside it, streamed: memory stays small, gigabytes take seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = _tokens(shape.vocabulary_size)
    with (folder / "model.bin").open("wb") as file:
        _write_weights(file, shape, np.random.default_rng(seed))
    num_heads, last = shape.width // HEAD_WIDTH, shape.num_decoder_layers - 1
    first_language = tokens.index("<|startoftranscript|>") + 1
    num_languages = tokens.index("<|translate|>") - first_language
    config = {
        "alignment_heads": [[last, head] for head in range(min(num_heads, 6))],
        "lang_ids": list(range(first_language, first_language + num_languages)),
        "suppress_ids": [],
        "suppress_ids_begin": [tokens.index("<|endoftext|>")],
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "vocabulary.json", tokens)
    _write_json(folder / "tokenizer.json", _tokenizer(tokens))
    _write_json(folder / "preprocessor_config.json", {"feature_size": shape.num_mels})
    return folder


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


# -- tokens ------------------------------------------------------------------------------------------


def _tokens(vocabulary_size: int) -> list[str]:
    """Names in Whisper's order, whose ids engines count on; text tokens are made up. The empty one is what
    CTranslate2 knows a multilingual model by."""
    num_languages = 100 if vocabulary_size == _CANTONESE_VOCABULARY else 99
    special = ["<|endoftext|>", "<|startoftranscript|>"]
    special += [f"<|{code}|>" for code in codes_of(num_languages)]
    special += [f"<|{name}|>" for name in _TASKS]
    times = [f"<|{0.02 * step:.2f}|>" for step in range(_NUM_TIMES)]
    num_text = vocabulary_size - len(special) - len(times)
    if num_text < 2:
        raise ValueError(f"a vocabulary of {vocabulary_size} leaves no text tokens")
    text = [f"t{index}" for index in range(num_text)]
    if vocabulary_size >= _FIRST_MULTILINGUAL:
        text[-1] = ""
    return [*text, *special, *times]


def _tokenizer(tokens: list[str]) -> dict[str, object]:
    first_special = tokens.index("<|endoftext|>")
    added = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, token in enumerate(tokens)
        if index >= first_special
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokens[:first_special])},
            "merges": [],
        },
    }


# -- weights -----------------------------------------------------------------------------------------


def _write_weights(file: BinaryIO, shape: Architecture, rng: np.random.Generator) -> None:
    variables = sorted(_variables(shape))
    pools: dict[int, memoryview] = {}
    file.write(struct.pack("<I", _VERSION) + _string("WhisperSpec"))
    file.write(struct.pack("<II", _REVISION, len(variables)))
    for variable in variables:
        file.write(_string(variable.name))
        file.write(struct.pack(f"<B{len(variable.shape)}I", len(variable.shape), *variable.shape))
        if variable.fan_in is None:
            number = {_FLOAT16: "<f2", _INT8: "<i1", _INT16: "<i2"}[variable.kind]
            data = np.full(variable.shape, variable.value, dtype=number).tobytes()
            file.write(struct.pack("<BI", variable.kind, len(data)) + data)
            continue
        if variable.fan_in not in pools:
            pools[variable.fan_in] = _pool(variable.fan_in, rng)
        pool = pools[variable.fan_in]
        left = 2 * int(np.prod(variable.shape))
        file.write(struct.pack("<BI", _FLOAT16, left))
        while left:
            left -= file.write(pool[:left])
    file.write(struct.pack("<I", 1) + _string("decoder/projection/weight"))
    file.write(_string("decoder/embeddings/weight"))


def _pool(fan_in: int, rng: np.random.Generator) -> memoryview:
    """Random float16 values to cut tensors from: hidden values keep their size from layer to layer."""
    values = rng.standard_normal(_POOL_VALUES, dtype=np.float32) * fan_in**-0.5
    return memoryview(values.astype("<f2").tobytes())


def _string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def _variables(shape: Architecture) -> Iterator[_Variable]:
    width = shape.width
    num_heads = max(1, width // HEAD_WIDTH)
    yield from _linear("encoder/conv1", (width, shape.num_mels, 3))
    yield from _linear("encoder/conv2", (width, width, 3))
    yield _Variable("encoder/num_heads", (), _INT16, value=num_heads)
    sides = (("encoder", shape.num_encoder_layers, MAX_STATES), ("decoder", shape.num_decoder_layers, 0))
    for side, num_layers, num_positions in sides:
        positions = (num_positions or MAX_TEXT_POSITIONS, width)
        yield _Variable(f"{side}/position_encodings/encodings", positions, _FLOAT16, width)
        yield from _norm(f"{side}/layer_norm", width)
        for layer in range(num_layers):
            yield from _layer(f"{side}/layer_{layer}", width, cross=side == "decoder")
    yield _Variable("decoder/embeddings/weight", (shape.vocabulary_size, width), _FLOAT16, width)
    yield _Variable("decoder/num_heads", (), _INT16, value=num_heads)
    yield _Variable("decoder/alignment_heads", (), _INT16, value=1)
    yield _Variable("decoder/alignment_layer", (), _INT16, value=-1)
    flags = {"activation": _GELU, "pre_norm": 1, "alibi": 0, "scale_embeddings": 0}
    for name, value in {**flags, "start_from_zero_embedding": 0}.items():
        yield _Variable(f"decoder/{name}", (), _INT8, value=value)


def _layer(prefix: str, width: int, *, cross: bool) -> Iterator[_Variable]:
    yield from _norm(f"{prefix}/self_attention/layer_norm", width)
    yield from _linear(f"{prefix}/self_attention/linear_0", (3 * width, width))
    yield from _linear(f"{prefix}/self_attention/linear_1", (width, width))
    if cross:
        yield from _norm(f"{prefix}/attention/layer_norm", width)
        for index, rows in enumerate((width, 2 * width, width)):
            yield from _linear(f"{prefix}/attention/linear_{index}", (rows, width))
    yield from _norm(f"{prefix}/ffn/layer_norm", width)
    yield from _linear(f"{prefix}/ffn/linear_0", (4 * width, width))
    yield from _linear(f"{prefix}/ffn/linear_1", (width, 4 * width))


def _linear(prefix: str, shape: tuple[int, ...]) -> Iterator[_Variable]:
    yield _Variable(f"{prefix}/weight", shape, _FLOAT16, int(np.prod(shape[1:])))
    yield _Variable(f"{prefix}/bias", shape[:1], _FLOAT16)


def _norm(prefix: str, width: int) -> Iterator[_Variable]:
    yield _Variable(f"{prefix}/gamma", (width,), _FLOAT16, value=1.0)
    yield _Variable(f"{prefix}/beta", (width,), _FLOAT16)
