"""A Whisper model of a few random values, in a folder of CTranslate2's kind or of Hugging Face's."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.asr.engines.weights import read_weights
from serve_app.models.tensor_files import Tensor

WIDTH, MELS, VOCABULARY, AUDIO_POSITIONS, TEXT_POSITIONS, HIDDEN = 8, 4, 11, 6, 5, 16
LAYERS = {"encoder": 1, "decoder": 2}
TYPE_NUMBERS = {"<f4": 0, "<i1": 1, "<i2": 2, "<f2": 4}
SAFETENSORS_TYPES = {"<f4": "F32", "<f2": "F16", "<u2": "BF16", "<i4": "I32"}
CONFIG = {
    "alignment_heads": [[1, 0], [0, 1], [1, 0]],
    "suppress_ids": [-1, 7, 3, 99],
    "suppress_ids_begin": [2],
    "lang_ids": [],
}
HUGGING_FACE_CONFIG = {"encoder_attention_heads": 4, "decoder_attention_heads": 2}
GENERATION_CONFIG = {
    "alignment_heads": CONFIG["alignment_heads"],
    "suppress_tokens": CONFIG["suppress_ids"],
    "begin_suppress_tokens": CONFIG["suppress_ids_begin"],
    "is_multilingual": False,
}

Variables = dict[str, Tensor]


def tiny_variables() -> Variables:
    """A model of random float16 values as CTranslate2 names them."""
    random = np.random.default_rng(0)
    variables: Variables = {
        "encoder/num_heads": np.array(4, "<i2"),
        "decoder/num_heads": np.array(2, "<i2"),
        "encoder/scale_embeddings": np.array(0, "<i1"),
    }

    def put(name: str, *shape: int) -> None:
        variables[name] = random.normal(size=shape).astype("<f2")

    def linear(name: str, rows: int, columns: int, *kernel: int) -> None:
        put(f"{name}/weight", rows, columns, *kernel)
        put(f"{name}/bias", rows)

    def norm(name: str) -> None:
        put(f"{name}/gamma", WIDTH)
        put(f"{name}/beta", WIDTH)

    linear("encoder/conv1", WIDTH, MELS, 3)
    linear("encoder/conv2", WIDTH, WIDTH, 3)
    put("encoder/position_encodings/encodings", AUDIO_POSITIONS, WIDTH)
    put("decoder/position_encodings/encodings", TEXT_POSITIONS, WIDTH)
    put("decoder/embeddings/weight", VOCABULARY, WIDTH)
    for side, num_layers in LAYERS.items():
        norm(f"{side}/layer_norm")
        for layer in (f"{side}/layer_{i}" for i in range(num_layers)):
            linear(f"{layer}/self_attention/linear_0", 3 * WIDTH, WIDTH)
            variables[f"{layer}/self_attention/linear_0/bias"][WIDTH : 2 * WIDTH] = 0
            linear(f"{layer}/self_attention/linear_1", WIDTH, WIDTH)
            norm(f"{layer}/self_attention/layer_norm")
            if side == "decoder":
                linear(f"{layer}/attention/linear_0", WIDTH, WIDTH)
                linear(f"{layer}/attention/linear_1", 2 * WIDTH, WIDTH)
                variables[f"{layer}/attention/linear_1/bias"][:WIDTH] = 0
                linear(f"{layer}/attention/linear_2", WIDTH, WIDTH)
                norm(f"{layer}/attention/layer_norm")
            linear(f"{layer}/ffn/linear_0", HIDDEN, WIDTH)
            linear(f"{layer}/ffn/linear_1", WIDTH, HIDDEN)
            norm(f"{layer}/ffn/layer_norm")
    return variables


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def variable(name: str, tensor: Tensor) -> bytes:
    described = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
    number = TYPE_NUMBERS[tensor.dtype.str.replace("|", "<")]
    return text(name) + described + struct.pack("<BI", number, tensor.nbytes) + tensor.tobytes()


def model_bin(variables: Variables) -> bytes:
    begin = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    aliases = struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight")
    return begin + b"".join(variable(name, tensor) for name, tensor in variables.items()) + aliases


def safetensors(tensors: Variables) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": SAFETENSORS_TYPES[tensor.dtype.str],
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + tensor.nbytes],
        }
        body += tensor.tobytes()
    described = json.dumps(header).encode()
    return struct.pack("<Q", len(described)) + described + body


def converted(path: Path, variables: Variables | None = None, **config: object) -> Path:
    path.mkdir(exist_ok=True)
    (path / "model.bin").write_bytes(model_bin(tiny_variables() if variables is None else variables))
    (path / "config.json").write_text(json.dumps(CONFIG | config))
    (path / "vocabulary.txt").write_text("".join(f"{i}\n" for i in range(VOCABULARY)))
    return path


def hugging_face(path: Path, tensors: Variables, **generation: object) -> Path:
    path.mkdir(exist_ok=True)
    (path / "model.safetensors").write_bytes(safetensors(tensors))
    (path / "config.json").write_text(json.dumps(HUGGING_FACE_CONFIG))
    (path / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG | generation))
    return path


def renamed(folder: Path) -> Variables:
    """The tensors of a converted folder under Hugging Face's own names."""
    return {f"model.{name}": np.array(tensor) for name, tensor in read_weights(folder).tensors.items()}
