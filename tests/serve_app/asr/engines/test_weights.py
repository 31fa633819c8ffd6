"""Both kinds of folder give the same tensors, and no forged or damaged one gives anything but a refusal."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.asr.engines.weights import folder_kind, read_weights, tokenizer_file
from serve_app.errors import ModelUnavailable
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


@pytest.fixture
def named(tmp_path: Path) -> Variables:
    """The same model's tensors under Hugging Face's own names."""
    read = read_weights(converted(tmp_path / "source")).tensors
    return {f"model.{name}": np.array(tensor) for name, tensor in read.items()}


# -- what is read ----------------------------------------------------------------------------------


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


# -- what is refused -------------------------------------------------------------------------------


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
        ({"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}, "type I64"),
        ({"dtype": "F32", "shape": [2**62], "data_offsets": [0, 4]}, "values"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, "malformed"),
        ({"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}, "malformed"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 10**9]}, "cut short"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, "cut short"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0]}, "cut short"),
        ({"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}, "type"),
        ("a tensor", "no description"),
    ],
)
def test_a_forged_safetensors_file_is_refused(tmp_path: Path, entry: object, message: str) -> None:
    header = json.dumps({"encoder.conv1.weight": entry}).encode()
    hugging_face(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    with pytest.raises(ModelUnavailable, match=message):
        read_weights(tmp_path)


@pytest.mark.parametrize("length", [9, 2**31, 2**64 - 1])
def test_a_safetensors_header_must_be_there(tmp_path: Path, length: int) -> None:
    hugging_face(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(ModelUnavailable, match="cut short|claims"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "model.bin", "missing.safetensors", 3]
)
def test_an_index_may_name_only_files_of_its_folder(tmp_path: Path, named: Variables, name: object) -> None:
    folder = hugging_face(tmp_path / "folder", {})
    (folder / "model.safetensors").unlink()
    (tmp_path / "secret.safetensors").write_bytes(safetensors(named))
    index = {"weight_map": {"encoder.conv1.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable):
        read_weights(folder)


@pytest.fixture(scope="session")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bytes], Path]:
    """A folder of either kind whose weights are these bytes."""
    ours = converted(tmp_path_factory.mktemp("ours"))
    named = {f"model.{name}": np.array(tensor) for name, tensor in read_weights(ours).tensors.items()}
    folders = {"model.bin": ours, "model.safetensors": hugging_face(tmp_path_factory.mktemp("theirs"), named)}

    def write(file: str, data: bytes) -> Path:
        (folders[file] / file).unlink()
        (folders[file] / file).write_bytes(data)
        return folders[file]

    return write


@pytest.fixture(scope="session")
def sound(
    damaged: Callable[[str, bytes], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    ours = converted(tmp_path_factory.mktemp("sound"))
    named = {f"model.{name}": np.array(tensor) for name, tensor in read_weights(ours).tensors.items()}
    return {"model.bin": (ours / "model.bin").read_bytes(), "model.safetensors": safetensors(named)}


_PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("file", ["model.bin", "model.safetensors"])
@_PROPERTY
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(
    damaged: Callable[[str, bytes], Path], sound: dict[str, bytes], file: str, share: float
) -> None:
    data = sound[file][: int(share * len(sound[file]))]
    with pytest.raises(ModelUnavailable):
        read_weights(damaged(file, data))


@pytest.mark.parametrize("file", ["model.bin", "model.safetensors"])
@_PROPERTY
@given(data=st.data())
def test_a_file_with_changed_bytes_is_read_or_refused(
    damaged: Callable[[str, bytes], Path], sound: dict[str, bytes], file: str, data: st.DataObject
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
