"""The graphs of a small random model: what they compute in pieces and batches, and how they are kept."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from fakes.tiny_weights import MELS, VOCABULARY, WIDTH, converted, hugging_face
from serve_app.asr.engines import onnx_files
from serve_app.asr.engines.choice import choose_engine, installed_engines
from serve_app.asr.engines.onnx_engine import OnnxEngine, compute_types
from serve_app.asr.engines.onnx_files import GRAPHS, graphs_of
from serve_app.asr.engines.onnx_model import OnnxWhisper, TextCache
from serve_app.asr.engines.states import SplicedStates
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.engines.whisper_engine import choose_type
from serve_app.asr.features import FloatArray
from serve_app.core.errors import ModelUnavailable

TEXTS = ((1, 4, 2, 9), (3, 8), (5, 5, 7))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, cache_dir: Path, compute_type: str = "float32") -> OnnxWhisper:
    return OnnxWhisper(graphs_of(folder, compute_type, cache_dir), read_weights(folder).shape, threads=1)


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxWhisper:
    return load(folder, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def features() -> FloatArray:
    return np.random.default_rng(1).normal(size=(3, MELS, 8)).astype(np.float32)


def whole(model: OnnxWhisper, audio: FloatArray, text: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Logits and scores of one item's text, read at once."""
    logits, scores = TextCache(model, audio).read([text], np.arange(len(text))[None], attention=True)
    assert scores is not None
    return logits[0], scores[0]


# -- what they compute -----------------------------------------------------------------------------------


def test_token_by_token_is_the_same_as_at_once(model: OnnxWhisper, features: FloatArray) -> None:
    audio = SplicedStates(model, model.encode(features)).take([0]).project()
    logits, scores = whole(model, audio, TEXTS[0])
    cache = TextCache(model, audio)
    for i, token in enumerate(TEXTS[0]):
        found, attended = cache.read([[token]], np.zeros((1, 1), np.int64), attention=True)
        assert attended is not None
        np.testing.assert_allclose(found[0, 0], logits[i], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(attended[0, :, 0], scores[:, i], rtol=1e-4, atol=1e-4)


def test_rows_of_different_lengths_are_as_alone(model: OnnxWhisper, features: FloatArray) -> None:
    """Also what is read behind them."""
    states = SplicedStates(model, model.encode(features))
    cache = TextCache(model, states.project())
    heads = [text[:-1] for text in TEXTS]
    last = np.array([[len(text) - 1] for text in heads])
    before, _ = cache.read(heads, last, attention=False)
    behind, _ = cache.read([text[-1:] for text in TEXTS], np.zeros((3, 1), np.int64), attention=False)
    for row, text in enumerate(TEXTS):
        logits, _ = whole(model, states.take([row]).project(), text)
        np.testing.assert_allclose(before[row, 0], logits[-2], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(behind[row, 0], logits[-1], rtol=1e-4, atol=1e-4)


def test_beams_of_an_item_share_its_audio(model: OnnxWhisper, features: FloatArray) -> None:
    """Two beams of each item, then those of the last item alone, changed over."""
    states = SplicedStates(model, model.encode(features))
    cache = TextCache(model, states.project())
    cache.read([[1], [2], [3]], np.zeros((3, 1), np.int64), attention=False)
    cache.select(np.array([0, 0, 1, 1, 2, 2]))
    cache.read([[4], [5], [6], [7], [8], [9]], np.zeros((6, 1), np.int64), attention=False)
    cache.select(np.array([5, 4]))
    found, attended = cache.read([[2], [2]], np.zeros((2, 1), np.int64), attention=True)
    assert attended is not None
    audio = states.take([2]).project()
    for row, text in enumerate([(3, 9, 2), (3, 8, 2)]):
        logits, scores = whole(model, audio, text)
        np.testing.assert_allclose(found[row, 0], logits[-1], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(attended[row, :, 0], scores[:, -1], rtol=1e-4, atol=1e-4)


def test_spliced_silence_is_as_if_it_had_been_encoded_so(model: OnnxWhisper, features: FloatArray) -> None:
    states, silence = (
        SplicedStates(model, model.encode(features)),
        SplicedStates(model, model.encode(features[:1, :, ::-1])),
    )
    short = SplicedStates(model, states.own[:, :2])
    joined = np.concatenate([short.own, np.broadcast_to(silence.own[:, 2:4], (3, 2, WIDTH))], axis=1)
    spliced = short.splice(silence, 4)
    assert spliced.num_states == 4
    np.testing.assert_allclose(spliced.project(), model.project(joined), rtol=1e-5, atol=1e-5)
    assert states.splice(silence, 4) is states
    with pytest.raises(ValueError, match="silence behind them already"):
        spliced.splice(silence, 5)
    with pytest.raises(ValueError, match="one item of at least 5"):
        short.splice(silence, 5)


@pytest.mark.parametrize("compute_type", ["int8_float32", "int8"])
def test_eight_bits_are_near(
    compute_type: str, folder: Path, model: OnnxWhisper, features: FloatArray, tmp_path: Path
) -> None:
    small = load(folder, tmp_path, compute_type)
    expected, found = model.encode(features), small.encode(features)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    audio = SplicedStates(model, expected).take([0]).project()
    logits, _ = whole(model, audio, TEXTS[0])
    rounded, _ = whole(small, audio, TEXTS[0])
    assert rounded.shape == (len(TEXTS[0]), VOCABULARY)
    assert np.abs(rounded - logits).max() < 0.1 * np.abs(logits).max()


def test_both_kinds_of_folder_give_the_same(
    folder: Path, model: OnnxWhisper, features: FloatArray, tmp_path: Path
) -> None:
    tensors = {name: np.array(tensor) for name, tensor in read_weights(folder).tensors.items()}
    other = hugging_face(tmp_path / "model", {f"model.{name}": tensor for name, tensor in tensors.items()})
    np.testing.assert_array_equal(load(other, tmp_path).encode(features), model.encode(features))


# -- how they are kept -------------------------------------------------------------------------------------


def test_graphs_are_written_once_and_for_their_owner_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = graphs_of(folder, "float32", tmp_path)
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    monkeypatch.setattr(onnx_files, "_write", lambda *_: pytest.fail("written again"))
    assert graphs_of(folder, "float32", tmp_path) == first


@pytest.mark.parametrize("name", [f"{graph}.data" for graph in GRAPHS] + ["graphs.json", "decoder.onnx"])
def test_a_damaged_file_is_written_anew(folder: Path, tmp_path: Path, name: str) -> None:
    file = graphs_of(folder, "float32", tmp_path) / name
    sound = file.read_bytes()
    file.write_bytes(sound[:-3] + b"xyz")
    assert graphs_of(folder, "float32", tmp_path) == file.parent
    assert file.read_bytes() == sound


def test_another_model_in_the_folder_takes_the_place_of_the_first(tmp_path: Path) -> None:
    folder = converted(tmp_path / "model")
    graphs_of(folder, "float32", tmp_path)
    tensors = read_weights(folder).shape
    converted(folder, alignment_heads=[[0, 0]])
    found = graphs_of(folder, "float32", tmp_path)
    assert tensors.alignment_heads != read_weights(folder).shape.alignment_heads
    assert [entry.name for entry in found.parent.iterdir()] == [found.name]


def test_a_cache_that_cannot_be_written_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match="cannot be written"):
        graphs_of(folder, "float32", tmp_path / "file")


# -- what can be asked for ---------------------------------------------------------------------------------


def test_the_engine_can_be_asked_for(folder: Path) -> None:
    assert "onnx" in installed_engines()
    assert choose_engine("onnx", folder, needs_attention=True) == "onnx"


def test_it_runs_on_cpus_only(folder: Path) -> None:
    with pytest.raises(ModelUnavailable, match="runs on CPUs, not on 'cuda'"):
        OnnxEngine(folder, device="cuda")


@pytest.mark.parametrize(("english", "default"), [(True, "int8"), (False, "int8_float32")])
def test_the_encoder_is_exact_where_not_all_is_english_unless_asked_otherwise(
    english: bool, default: str
) -> None:
    types = compute_types(english=english)
    expected = {"auto": default, "float16": default, "int8": "int8", "int8_float32": "int8_float32"}
    assert {wanted: choose_type(wanted, types, "cpu") for wanted in expected} == expected
