"""Models with random weights: their folders are sound, and engines read the same from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.models import write_random_model
from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.choice import load_engine
from serve_app.asr.features import FloatArray
from serve_app.asr.folder import open_model_folder
from serve_app.asr.ports import ModelToLoad
from serve_app.asr.vocabulary import Vocabulary
from serve_app.assembly.card_share import read_architecture
from serve_app.core.jobs import Task
from serve_app.models.footprint import Architecture
from serve_app.models.registry import find_spec
from serve_app.models.verify import check_folder

SMALL = Architecture(width=64, num_encoder_layers=2, num_decoder_layers=2, vocabulary_size=3108, num_mels=80)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "small", SMALL)


@pytest.fixture
def features() -> FloatArray:
    return np.random.default_rng(1).standard_normal((3, 80, 200), dtype=np.float32)


def test_a_folder_is_sound_and_of_its_shape(folder: Path) -> None:
    assert check_folder(folder) == []
    assert read_architecture(folder) == SMALL
    assert not open_model_folder(folder).multilingual


@pytest.mark.parametrize(
    ("vocabulary_size", "num_mels", "num_languages"), [(51_865, 80, 99), (51_866, 128, 100)]
)
def test_ids_are_whispers_own(
    tmp_path: Path, vocabulary_size: int, num_mels: int, num_languages: int
) -> None:
    shape = Architecture(64, 1, 1, vocabulary_size, num_mels)
    opened = open_model_folder(write_random_model(tmp_path / "m", shape))
    words = Vocabulary(opened.tokenizer_path, multilingual=True)
    assert (opened.multilingual, opened.num_mels) == (True, num_mels)
    assert (words.end, words.start, len(words.languages)) == (50_257, 50_258, num_languages)
    assert words.start_sequence("de", Task.TRANSCRIBE) == [50_258, 50_261, 50_260 + num_languages]
    assert words.timestamp_ids(vocabulary_size)[0] == vocabulary_size - 1501


def test_a_known_model_has_its_true_size(tmp_path: Path) -> None:
    spec = find_spec("tiny")
    assert spec is not None
    assert spec.architecture is not None
    written = write_random_model(tmp_path / "tiny", spec.architecture) / "model.bin"
    assert written.stat().st_size == pytest.approx(2 * spec.architecture.num_parameters, rel=0.001)


def test_the_same_seed_writes_the_same_weights(tmp_path: Path, folder: Path) -> None:
    again = write_random_model(tmp_path / "again", SMALL)
    other = write_random_model(tmp_path / "other", SMALL, seed=1)
    assert (again / "model.bin").read_bytes() == (folder / "model.bin").read_bytes()
    assert (other / "model.bin").read_bytes() != (folder / "model.bin").read_bytes()


def test_a_vocabulary_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no text tokens"):
        write_random_model(tmp_path / "m", Architecture(64, 1, 1, 1_000, 80))


def answers(engine_name: str, folder: Path, features: FloatArray) -> tuple[FloatArray, list[Hypothesis]]:
    engine = load_engine(engine_name, ModelToLoad("small", folder, device="cpu", compute_type="float32"))
    words = Vocabulary(folder / "tokenizer.json", multilingual=False)
    states = engine.encode(features)
    prompt = Prompt((words.start, words.no_timestamps), 100)
    options = DecodeOptions(max_new_tokens=12, suppressed=(words.end,))
    found = engine.generate(states, [prompt] * 3, options)
    return np.asarray(getattr(states, "own", states)), found


def test_it_is_encoded_and_decoded(folder: Path, features: FloatArray) -> None:
    states, found = answers("ctranslate2", folder, features)
    assert states.shape == (3, 100, 64)
    assert np.isfinite(states).all()
    assert states.std() == pytest.approx(1.0, abs=0.1)
    assert [len(item.ids) for item in found] == [12, 12, 12]
    assert len({item.sum_logprob for item in found}) == 3


@pytest.mark.extras
def test_torch_reads_the_same(folder: Path, features: FloatArray) -> None:
    pytest.importorskip("torch")
    states, found = answers("ctranslate2", folder, features)
    own, own_found = answers("torch", folder, features)
    assert np.abs(states - own).max() < 1e-4
    assert [item.ids for item in own_found] == [item.ids for item in found]
    assert [item.sum_logprob for item in own_found] == pytest.approx(
        [item.sum_logprob for item in found], abs=0.01
    )
