"""Both kinds of folder give the same tensors, whatever type their values are stored in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import structlog
from safetensors.numpy import load_file, save_file

from fakes.tiny_weights import (
    AUDIO_POSITIONS,
    MELS,
    TEXT_POSITIONS,
    VOCABULARY,
    WIDTH,
    Variables,
    converted,
    hugging_face,
    renamed,
    safetensors,
    tiny_variables,
)
from serve_app.asr.engines.weights import folder_kind, read_weights, tokenizer_file
from serve_app.core.errors import ModelUnavailable
from serve_app.models.tensor_files import read_safetensors


@pytest.fixture
def named(tmp_path: Path) -> Variables:
    """The same model's tensors under Hugging Face's own names."""
    return renamed(converted(tmp_path / "source"))


def test_the_shape_comes_from_the_file_and_its_config(tmp_path: Path) -> None:
    shape = read_weights(converted(tmp_path)).shape
    assert (shape.num_mels, shape.vocabulary_size, shape.width) == (MELS, VOCABULARY, WIDTH)
    assert (shape.num_encoder_layers, shape.num_decoder_layers) == (1, 2)
    assert (shape.num_encoder_heads, shape.num_decoder_heads) == (4, 2)
    assert (shape.num_audio_positions, shape.num_text_positions) == (AUDIO_POSITIONS, TEXT_POSITIONS)
    assert shape.alignment_heads == ((1, 0), (0, 1))
    assert (shape.suppress_ids, shape.suppress_ids_begin) == ((3, 7), (2,))
    assert not shape.multilingual


def test_fused_projections_are_split_without_copying(tmp_path: Path) -> None:
    variables = tiny_variables()
    tensors = read_weights(converted(tmp_path, variables)).tensors
    fused = variables["decoder/layer_1/self_attention/linear_0/weight"]
    for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
        tensor = tensors[f"decoder.layers.1.self_attn.{name}.weight"]
        np.testing.assert_array_equal(tensor, fused[part * WIDTH : (part + 1) * WIDTH])
        assert not tensor.flags.owndata
        assert not tensor.flags.writeable
    fused = variables["decoder/layer_0/attention/linear_1/bias"]
    np.testing.assert_array_equal(tensors["decoder.layers.0.encoder_attn.v_proj.bias"], fused[WIDTH:])
    assert "decoder.layers.0.encoder_attn.k_proj.bias" not in tensors


def test_both_kinds_of_folder_give_the_same(tmp_path: Path, named: Variables) -> None:
    ours = read_weights(converted(tmp_path / "ours"))
    theirs = read_weights(hugging_face(tmp_path / "theirs", {**named, "proj_out.weight": np.zeros(3, "<f4")}))
    assert theirs.shape == ours.shape
    assert theirs.tensors.keys() == ours.tensors.keys()
    for name, tensor in ours.tensors.items():
        np.testing.assert_array_equal(theirs.tensors[name], tensor)


def test_tensors_are_views_where_the_library_finds_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    written = {
        f"{kind}{shape}": generator.normal(size=shape).astype(kind)
        for kind in ("f8", "f4", "f2")
        for shape in ((1,), (3, 5), (2, 3, 1))
    }
    save_file(written, tmp_path / "x")
    read = read_safetensors(tmp_path / "x")
    theirs = load_file(tmp_path / "x")
    assert read.keys() == theirs.keys() == written.keys()
    for name, tensor in theirs.items():
        assert read[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read[name], tensor)
        assert not read[name].flags.owndata, "not copied"
        assert not read[name].flags.writeable


def test_bfloat16_becomes_float32(tmp_path: Path, named: Variables) -> None:
    cut = {name: tensor.astype("<f4").view("<u4") for name, tensor in named.items()}
    brief = {name: (bits >> 16).astype("<u2") for name, bits in cut.items()}
    tensors = read_weights(hugging_face(tmp_path, brief)).tensors
    for name, bits in cut.items():
        expected = (bits & 0xFFFF0000).view("<f4")
        np.testing.assert_array_equal(tensors[name.removeprefix("model.")], expected)


def test_shards_are_put_together(tmp_path: Path, named: Variables) -> None:
    hugging_face(tmp_path, named)
    whole = read_weights(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    names = sorted(named)
    files = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: named[name] for name in names if files[name] == file}
        (tmp_path / file).write_bytes(safetensors(part))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    again = read_weights(tmp_path)
    assert folder_kind(tmp_path) == "huggingface"
    assert again.shape == whole.shape
    assert again.tensors.keys() == whole.tensors.keys()


def test_int8_is_multiplied_out_with_a_warning(tmp_path: Path) -> None:
    variables = tiny_variables()
    name = "encoder/layer_0/ffn/linear_0/weight"
    floats = variables[name].astype(np.float32)
    scales = (127 / np.abs(floats).max(axis=1)).astype("<f4")
    variables[name] = np.round(floats * scales[:, None]).astype("<i1")
    variables[f"{name}_scale"] = scales
    with structlog.testing.capture_logs() as logs:
        tensors = read_weights(converted(tmp_path, variables)).tensors
    np.testing.assert_allclose(
        tensors["encoder.layers.0.fc1.weight"], floats, atol=np.abs(floats).max() / 250
    )
    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_without_alignment_heads_all_of_the_last_half_are_taken(tmp_path: Path) -> None:
    assert read_weights(converted(tmp_path, alignment_heads=None)).shape.alignment_heads == ((1, 0), (1, 1))


@pytest.mark.parametrize("file", ["model.safetensors", "model.safetensors.index.json"])
def test_the_kind_of_a_folder(tmp_path: Path, file: str) -> None:
    (tmp_path / file).touch()
    assert folder_kind(tmp_path) == "huggingface"
    (tmp_path / "model.bin").touch()
    assert folder_kind(tmp_path) == "ctranslate2"


def test_the_tokenizer_is_found_or_missed(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"no tokenizer\.json"):
        tokenizer_file(tmp_path)
    (tmp_path / "tokenizer.json").touch()
    assert tokenizer_file(tmp_path) == tmp_path / "tokenizer.json"


def test_a_real_model_is_read_whole(tiny_folder: Path) -> None:
    weights = read_weights(tiny_folder)
    assert len(weights.tensors) == 167
    assert sum(tensor.size for tensor in weights.tensors.values()) == 37_760_256
    assert all(np.isfinite(tensor).all() for tensor in weights.tensors.values())
    assert not weights.shape.multilingual
