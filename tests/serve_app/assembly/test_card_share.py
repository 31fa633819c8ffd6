"""A replica's share of a pretended card: what is read, what is bounded, what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fakes.nvml import GIB, FakeNvml, rtx_2060, rtx_3060
from serve_app.asr.config import HostedModel, RecogniserConfig
from serve_app.assembly import card_share
from serve_app.assembly.card_share import (
    CACHE_VARIABLE,
    kept_to_share,
    limit_ctranslate2_caches,
    limit_torch_memory,
    own_share,
    read_architecture,
)
from serve_app.capacity.card_memory import CONTEXT_BYTES, MemoryPlan, Share
from serve_app.capacity.machine import read_gpus
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import Role
from serve_app.models.registry import find_spec


@pytest.fixture(autouse=True)
def a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """CTranslate2 has a card here, and no variable is set."""
    monkeypatch.setattr(card_share, "choose_device", lambda wanted: "cuda")
    monkeypatch.setattr(card_share, "choose_compute_type", lambda wanted, device: wanted)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.delenv(CACHE_VARIABLE)


def cards() -> tuple[object, ...]:
    return read_gpus(FakeNvml([rtx_2060(), rtx_3060()]))


@pytest.mark.parametrize(
    ("fraction", "share_bytes"), [(0.5, 6 * GIB), (None, 12 * GIB), (0.0, 12 * GIB), (2.0, 12 * GIB)]
)
def test_a_share_of_the_first_visible_card(fraction: float | None, share_bytes: int) -> None:
    share = own_share("auto", fraction, cards)  # type: ignore[arg-type]
    assert share is not None
    assert share.bytes == share_bytes


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_no_share_of_other_devices(device: str) -> None:
    assert own_share(device, 0.5, cards) is None  # type: ignore[arg-type]


def test_no_share_without_a_card_or_a_way_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_share("cuda", 0.5, lambda: ()) is None
    monkeypatch.setattr(card_share, "choose_device", lambda wanted: "cpu")
    assert own_share("auto", 0.5, cards) is None  # type: ignore[arg-type]


def test_caches_share_what_is_free_and_a_persons_own_setting_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    limit_ctranslate2_caches(MemoryPlan(8, free_bytes=100 * 1024**2), num_caches=2)
    assert os.environ[CACHE_VARIABLE] == f"4,3,12,{50 * 1024**2}"
    limit_ctranslate2_caches(MemoryPlan(8, free_bytes=0), num_caches=2)
    assert os.environ[CACHE_VARIABLE] == f"4,3,12,{50 * 1024**2}"
    monkeypatch.delenv(CACHE_VARIABLE)
    limit_ctranslate2_caches(MemoryPlan(8, free_bytes=100 * GIB), num_caches=2)
    assert os.environ[CACHE_VARIABLE] == f"4,3,12,{200 * 1024**2}"
    monkeypatch.delenv(CACHE_VARIABLE)
    limit_ctranslate2_caches(MemoryPlan(8, free_bytes=0), num_caches=2)
    assert os.environ[CACHE_VARIABLE] == f"4,3,12,{8 * 1024**2}"


def test_torch_fails_at_the_share_with_the_context_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    cuda = SimpleNamespace(is_available=lambda: True, set_per_process_memory_fraction=said.append)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    limit_torch_memory(Share(10 * GIB, 0.5))
    assert said == [pytest.approx(0.5 - CONTEXT_BYTES / (10 * GIB))]


# -- with real folders --------------------------------------------------------------------------------


@pytest.mark.models
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_a_folders_shape_is_that_of_the_table(request: pytest.FixtureRequest, name: str) -> None:
    folder: Path = request.getfixturevalue("tiny_folder" if name == "tiny.en" else "base_folder")
    spec = find_spec(name)
    assert spec is not None
    assert read_architecture(folder) == spec.architecture


def test_what_is_no_model_has_no_shape(tmp_path: Path) -> None:
    assert read_architecture(tmp_path) is None
    (tmp_path / "model.bin").write_bytes(b"nonsense")
    assert read_architecture(tmp_path) is None


def hosted(folder: Path) -> RecogniserConfig:
    model = HostedModel("base", folder)
    return RecogniserConfig(
        {Role.FINAL: model, Role.RECORDING: model},
        engine="ctranslate2",
        device="cuda",
        compute_type="float16",
        num_workers=2,
        max_batch=16,
    )


@pytest.mark.models
def test_a_config_that_fits_keeps_its_batches(base_folder: Path) -> None:
    config = hosted(base_folder)
    assert kept_to_share(config, Share(12 * GIB, 0.5)) == config


@pytest.mark.models
def test_batches_are_made_to_fit(base_folder: Path) -> None:
    # 145 MB of weights, 450 of context, 80 of handles: 300 MB are left for two workers' batches of 56 MB.
    kept = kept_to_share(hosted(base_folder), Share(10**9, 0.975))
    assert kept.max_batch == 2
    beams = replace(hosted(base_folder), beam_size=20)
    assert kept_to_share(beams, Share(10**9, 0.975)).max_batch == 1
    kept = kept_to_share(hosted(base_folder), Share(10**9, 0.7))
    assert kept.max_batch == 1


@pytest.mark.models
def test_a_share_that_cannot_hold_the_weights_is_refused(base_folder: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"base \(float16\)"):
        kept_to_share(hosted(base_folder), Share(10**9, 0.5))


def test_a_folder_without_a_known_shape_counts_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(1000))
    model = HostedModel("nobody/knows", tmp_path)
    config = RecogniserConfig({Role.FINAL: model}, engine="ctranslate2", device="cuda")
    assert kept_to_share(config, Share(GIB, 1.0)).max_batch == 8
    with pytest.raises(ModelUnavailable, match="nobody/knows"):
        kept_to_share(config, Share(CONTEXT_BYTES, 1.0))
