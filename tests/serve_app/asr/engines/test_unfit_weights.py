"""Unfit and forged weights are refused, and damage does nothing worse than change values."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.tiny_weights import (
    CONFIG,
    Variables,
    converted,
    hugging_face,
    renamed,
    safetensors,
    text,
    tiny_variables,
)
from serve_app.asr.engines.weights import read_weights
from serve_app.core.errors import ModelUnavailable
from serve_app.models.tensor_files import read_safetensors

Damaged = Callable[[str, bytes], Path]


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="holds no Whisper model"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("decoder/layer_0/ffn/layer_norm/beta"), "decoder/layer_0/ffn/layer_norm/beta"),
        (lambda v: v.pop("encoder/num_heads"), "encoder/num_heads"),
        (lambda v: v.update({"decoder/num_heads": np.array(3, "<i2")}), "heads"),
        (lambda v: v.update({"decoder/embeddings/weight": np.ones((11, 8), "<i2")}), "int16"),
        (lambda v: v.update({"decoder/embeddings/weight": np.ones((11, 7), "<f2")}), "shape"),
        (lambda v: v.update({"encoder/layer_300/x": np.ones(1, "<f2")}), "301 layers"),
        (lambda v: v.update({"encoder/layer_0/self_attention/linear_0/bias": np.ones(24, "<f2")}), "keys"),
        (lambda v: v.update({"encoder/layer_0/self_attention/linear_0/bias": np.zeros(23, "<f2")}), "split"),
        (lambda v: v.update({"encoder/conv1/weight": np.ones((8, 4), "<f2")}), "dimensions"),
    ],
)
def test_an_unfit_model_is_refused(
    tmp_path: Path, change: Callable[[Variables], object], message: str
) -> None:
    variables = tiny_variables()
    change(variables)
    with pytest.raises(ModelUnavailable, match=message):
        read_weights(converted(tmp_path, variables))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "no JSON"),
        (json.dumps(CONFIG | {"alignment_heads": [[2, 0]]}), "alignment_heads"),
        (json.dumps(CONFIG | {"alignment_heads": [["a", 0]]}), "alignment_heads"),
        (json.dumps(CONFIG | {"suppress_ids": "all"}), "suppressed ids"),
    ],
)
def test_an_unfit_config_is_refused(tmp_path: Path, config: str, message: str) -> None:
    (converted(tmp_path) / "config.json").write_text(config)
    with pytest.raises(ModelUnavailable, match=message):
        read_weights(tmp_path)


BEGIN = struct.pack("<I", 6) + text("WhisperSpec")
MANY = 2**32 - 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\5\0\0\0", "version 5"),
        (struct.pack("<I", 6) + text("TransformerSpec"), "TransformerSpec"),
        (BEGIN + struct.pack("<II", 3, MANY), f"{MANY} variables"),
        (BEGIN + struct.pack("<II", 3, 1) + text("x") + struct.pack("<B", 255), "255 dimensions"),
        (BEGIN + struct.pack("<II", 3, 1) + text("x") + struct.pack("<BIBI", 1, 9, 7, 0), "type 7"),
        (
            BEGIN + struct.pack("<II", 3, 1) + text("x") + struct.pack("<B8IBI", 8, *[MANY] * 8, 0, 0),
            "values",
        ),
        (BEGIN + struct.pack("<II", 3, 1) + text("x") + struct.pack("<BIBI", 1, 0, 0, 0), "empty"),
        (BEGIN + struct.pack("<II", 3, 1) + text("x") + struct.pack("<BIBI", 1, 8, 0, 32), "cut short"),
        (BEGIN + struct.pack("<III", 3, 0, 1) + text("a") + text("b"), "no target"),
    ],
)
def test_a_forged_model_bin_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (converted(tmp_path) / "model.bin").write_bytes(data)
    with pytest.raises(ModelUnavailable, match=message):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}, "type I64"),
        ({"dtype": "F32", "shape": [2**62], "data_offsets": [0, 16]}, "overflow"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 16]}, "integer `-1`"),
        ({"dtype": "F32", "shape": [4] + [1] * 8, "data_offsets": [0, 16]}, "9 dimensions"),
        ({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "not fully covered"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 10**9]}, "offset"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}, "offset"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}, "offset"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [0]}, "invalid length 1"),
        ({"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]}, "type"),
        ("a tensor", "TensorInfo"),
    ],
)
def test_a_forged_safetensors_file_is_refused(tmp_path: Path, entry: object, message: str) -> None:
    header = json.dumps({"encoder.conv1.weight": entry}).encode()
    hugging_face(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    with pytest.raises(ModelUnavailable, match=message):
        read_weights(tmp_path)


def test_an_empty_tensor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(safetensors({"a": np.zeros(3, "<f4"), "b": np.zeros((0, 3), "<f4")}))
    with pytest.raises(ValueError, match="a tensor is empty"):
        read_safetensors(tmp_path / "x")


@pytest.mark.parametrize("length", [9, 2**31, 2**64 - 1])
def test_a_safetensors_header_must_be_there(tmp_path: Path, length: int) -> None:
    hugging_face(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(ModelUnavailable, match="invalid header length|claims"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "model.bin", "missing.safetensors", 3]
)
def test_an_index_may_name_only_files_of_its_folder(tmp_path: Path, name: object) -> None:
    named = renamed(converted(tmp_path / "source"))
    folder = hugging_face(tmp_path / "folder", {})
    (folder / "model.safetensors").unlink()
    (tmp_path / "secret.safetensors").write_bytes(safetensors(named))
    index = {"weight_map": {"encoder.conv1.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable):
        read_weights(folder)


@pytest.fixture(scope="session")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    """A folder of either kind whose weights are these bytes."""
    ours = converted(tmp_path_factory.mktemp("ours"))
    theirs = hugging_face(tmp_path_factory.mktemp("theirs"), renamed(ours))
    folders = {"model.bin": ours, "model.safetensors": theirs}

    def write(file: str, data: bytes) -> Path:
        (folders[file] / file).unlink()
        (folders[file] / file).write_bytes(data)
        return folders[file]

    return write


@pytest.fixture(scope="session")
def sound(damaged: Damaged, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    ours = converted(tmp_path_factory.mktemp("sound"))
    return {"model.bin": (ours / "model.bin").read_bytes(), "model.safetensors": safetensors(renamed(ours))}


_PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.bin", "model.safetensors"])
@_PROPERTY
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(
    damaged: Damaged, sound: dict[str, bytes], file: str, share: float
) -> None:
    data = sound[file][: int(share * len(sound[file]))]
    with pytest.raises(ModelUnavailable):
        read_weights(damaged(file, data))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.bin", "model.safetensors"])
@_PROPERTY
@given(data=st.data())
def test_a_file_with_changed_bytes_is_read_or_refused(
    damaged: Damaged, sound: dict[str, bytes], file: str, data: st.DataObject
) -> None:
    changed = bytearray(sound[file])
    places = st.integers(0, len(changed) - 1)
    # Most of what can be misread is in front.
    for place in data.draw(st.lists(places | st.integers(0, 400), min_size=1, max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    folder = damaged(file, bytes(changed))
    try:
        weights = read_weights(folder)
    except ModelUnavailable:
        return
    assert all(tensor.size for tensor in weights.tensors.values())
