"""Small folders with the shape of a Whisper model in Hugging Face's format."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.models.languages import LANGUAGES

WIDTH = 8
MULTILINGUAL_SIZE = 51_865


def config_of(**changes: Any) -> dict[str, Any]:
    """A config.json with one layer a side; None removes a key."""
    config = {
        "model_type": "whisper",
        "d_model": WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "vocab_size": MULTILINGUAL_SIZE,
        "num_mel_bins": 80,
        **changes,
    }
    return {key: value for key, value in config.items() if value is not None}


def shapes_of(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors that a check asks for."""
    width = config["d_model"]
    return {
        "model.encoder.conv1.weight": (width, config.get("num_mel_bins", 80), 3),
        "model.decoder.embed_tokens.weight": (config["vocab_size"], width),
        "model.encoder.layers.0.self_attn.q_proj.weight": (width, width),
        "model.decoder.layers.0.self_attn.q_proj.weight": (width, width),
    }


def header_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], int]:
    """A safetensors header for float16 tensors, and the number of bytes behind it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    return header, end


def safetensors(header: Any, num_bytes: int) -> bytes:
    """A file with this header and so many zero bytes."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + bytes(num_bytes)


def write_huggingface(
    folder: Path, *, sharded: bool = False, english: bool = False, num_mels: int = 80
) -> Path:
    """A sound folder on disk."""
    folder.mkdir(parents=True)
    config = config_of(num_mel_bins=num_mels, vocab_size=MULTILINGUAL_SIZE - english)
    generation = {
        "alignment_heads": [[0, 0]],
        "suppress_tokens": [1],
        "begin_suppress_tokens": [2],
        "is_multilingual": not english,
    }
    tokens = [{"id": index, "content": f"<|{code}|>"} for index, code in enumerate(list(LANGUAGES)[:99])]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}, "added_tokens": tokens}))
    shapes = shapes_of(config)
    if not sharded:
        (folder / "model.safetensors").write_bytes(safetensors(*header_of(shapes)))
        return folder
    weight_map = {}
    for index, name in enumerate(shapes):
        file = f"model-{index + 1:05}-of-{len(shapes):05}.safetensors"
        (folder / file).write_bytes(safetensors(*header_of({name: shapes[name]})))
        weight_map[name] = file
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
