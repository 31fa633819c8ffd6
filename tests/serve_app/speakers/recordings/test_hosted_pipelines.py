"""pyannote's own pipelines: refusals that need none of it, and a folder of random weights."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.core.errors import ModelUnavailable
from serve_app.speakers.recordings.hosted import HostedDiarizer, as_folder, check_folder
from serve_app.speakers.turns import SpeakerCounts

COMMUNITY = "pyannote/speaker-diarization-community-1"
CONFIG = """
dependencies: {pyannote.audio: 4.0.0}
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    segmentation: $model/segmentation
    embedding: $model/embedding
    plda: $model/plda
    clustering: VBxClustering
    segmentation_batch_size: 8
    embedding_batch_size: 8
params: {segmentation: {min_duration_off: 0.0}, clustering: {threshold: 0.6, Fa: 0.07, Fb: 0.8}}
"""


def write(folder: Path, config: str = CONFIG) -> Path:
    for name in ("segmentation", "embedding", "plda"):
        (folder / name).mkdir(parents=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    return folder


def test_a_gated_pipeline_without_a_token_says_what_to_do() -> None:
    with pytest.raises(ModelUnavailable) as caught:
        HostedDiarizer(COMMUNITY)

    said = str(caught.value)
    assert f"https://huggingface.co/{COMMUNITY}" in said
    assert "accept its conditions" in said
    assert "HF_TOKEN" in said


def test_the_hub_is_left_alone_offline() -> None:
    with pytest.raises(ModelUnavailable, match="this server is offline"):
        HostedDiarizer(COMMUNITY, hf_token="hf_token", offline=True)


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "~none/x", "community-1", "a/b/c"])
def test_a_path_to_nothing_is_no_hub_id(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="neither a folder nor the hub id"):
        as_folder(name)


def test_hub_ids_and_folders(tmp_path: Path) -> None:
    assert as_folder(COMMUNITY) is None
    assert as_folder(str(tmp_path)) == tmp_path
    check_folder(write(tmp_path / "pipeline"))


@pytest.mark.parametrize(
    "elsewhere", ["pyannote/segmentation-3.0", "/etc", "$model/../other", "$model/missing", "{checkpoint: x}"]
)
def test_checkpoints_come_from_nowhere_else(tmp_path: Path, elsewhere: str) -> None:
    (tmp_path / "other").mkdir()
    folder = write(tmp_path / "pipeline", CONFIG.replace("$model/embedding", elsewhere))

    with pytest.raises(ModelUnavailable, match=r"embedding must be given as \$model/<folder>"):
        check_folder(folder)


@pytest.mark.parametrize("config", ["", "- a list", "pipeline: {}", "pipeline: {params: 3}", "a: b: c"])
def test_a_folder_without_a_pipeline(tmp_path: Path, config: str) -> None:
    with pytest.raises(ModelUnavailable, match="no configuration of a pyannote pipeline"):
        check_folder(write(tmp_path / "pipeline", config))


@pytest.fixture(scope="module")
def random_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub has it, its models untrained."""
    from serve_app.speakers.models.weights import quiet_pyannote

    quiet_pyannote()
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("pyannote.audio", exc_type=ImportError)
        from pyannote.audio.core.task import Problem, Resolution, Specifications
        from pyannote.audio.models.embedding import XVectorSincNet
        from pyannote.audio.models.segmentation import PyanNet

        folder = write(tmp_path_factory.mktemp("hub") / "pipeline")
        torch.manual_seed(0)
        segmentation = PyanNet()
        segmentation.specifications = Specifications(
            problem=Problem.MONO_LABEL_CLASSIFICATION,
            resolution=Resolution.FRAME,
            duration=10.0,
            classes=["a", "b", "c"],
            powerset_max_classes=2,
            permutation_invariant=True,
        )
        segmentation.build()
        embedding = XVectorSincNet(dimension=256)
        embedding.specifications = Specifications(
            problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0
        )
        for name, model in (("segmentation", segmentation), ("embedding", embedding)):
            checkpoint: dict[str, Any] = {
                "state_dict": model.state_dict(),
                "hyper_parameters": dict(model.hparams),
                "pytorch-lightning_version": "2.6.0",
            }
            model.on_save_checkpoint(checkpoint)
            torch.save(checkpoint, folder / name / "pytorch_model.bin")
    random = np.random.default_rng(0)
    np.savez(
        folder / "plda" / "xvec_transform.npz",
        mean1=np.zeros(256),
        mean2=np.zeros(128),
        lda=random.normal(size=(256, 128)),
    )
    np.savez(folder / "plda" / "plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=np.linspace(2, 1, 128))
    return folder


@pytest.mark.extras
def test_a_pipeline_of_a_folder_runs(random_pipeline: Path) -> None:
    diarizer = HostedDiarizer(str(random_pipeline), offline=True)
    audio = (np.random.default_rng(0).normal(size=12 * 16_000) * 3_000).astype(np.int16)
    shares: list[float] = []

    found = diarizer.diarize(audio, SpeakerCounts(most=2), shares.append)

    assert found.num_speakers == len({turn.speaker for turn in found.turns})
    assert found.num_speakers <= 2
    assert all(0 <= turn.start_s < turn.end_s <= 12 for turn in (*found.turns, *found.exclusive))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert diarizer.diarize(audio[:0], SpeakerCounts(), shares.append).turns == ()


@pytest.mark.extras
def test_a_pipeline_that_cannot_be_loaded_says_why(random_pipeline: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "pipeline")

    with pytest.raises(ModelUnavailable, match=r"pipeline cannot be loaded: .*Is it a folder of"):
        HostedDiarizer(str(folder), offline=True)
