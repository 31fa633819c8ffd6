"""Batches timed on an engine: what is measured, where it stops, what is said of failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import batches as gpu_batches
from benchmarks.gpu.batches import (
    BatchPlan,
    Point,
    measure_curve,
    peak_memory,
)
from benchmarks.gpu.models import write_random_model
from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.features import FloatArray
from serve_app.asr.ports import ModelToLoad
from serve_app.models.footprint import Architecture

SHAPE = Architecture(width=64, num_encoder_layers=1, num_decoder_layers=1, vocabulary_size=3108, num_mels=80)
PLAN = BatchPlan(windows_s=(1.0, 2.0), batches=(1, 2, 4), repeats=2, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "small", SHAPE)


def test_every_window_and_batch_is_timed(folder: Path) -> None:
    curve = measure_curve("ctranslate2", "small", folder, "int8", PLAN)
    assert curve.failure == ""
    assert [(point.audio_s, point.batch) for point in curve.points] == [
        (seconds, batch) for seconds in (1.0, 2.0) for batch in (1, 2, 4)
    ]
    for point in curve.measured:
        assert len(point.busy_s) == 2
        assert 0 < point.encode_s < max(point.busy_s)
        assert point.memory_bytes
        assert point.streams == pytest.approx(point.batch * point.audio_s / point.latency_s)
    assert len(curve.measured) == 6
    assert curve.best_streams == max(point.streams for point in curve.points)


class ScriptedEngine(CTranslate2Engine):
    """Counts what it is asked for; runs out of memory over two items."""

    tokens: list[int] = []
    batches: list[int] = []

    def encode(self, features: FloatArray) -> FloatArray:
        self.batches.append(len(features))
        if len(features) > 2:
            raise RuntimeError("CUDA failed with error out of memory")
        return super().encode(features)

    def generate(
        self, states: FloatArray, prompts: Sequence[Prompt], options: DecodeOptions
    ) -> list[Hypothesis]:
        self.tokens.append(options.max_new_tokens)
        return super().generate(states, prompts, options)


def test_it_stops_where_memory_runs_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(engine: str, model: ModelToLoad) -> Any:
        return ScriptedEngine(model.folder, device=model.device, compute_type=model.compute_type)

    monkeypatch.setattr(gpu_batches, "load_engine", load)
    curve = measure_curve(
        "ctranslate2", "small", folder, "int8", BatchPlan((2.0,), (1, 2, 4, 8), 3, device="cpu")
    )
    assert [(point.batch, point.failure) for point in curve.points] == [
        (1, ""),
        (2, ""),
        (4, "out of memory"),
    ]
    assert [point.batch for point in curve.measured] == [1, 2]
    # The silence, then each size once to warm up, once watched and three times timed.
    assert ScriptedEngine.batches == [1, *[1] * 5, *[2] * 5, 4]
    assert set(ScriptedEngine.tokens) == {8}


def test_batches_that_take_too_long_are_the_last(folder: Path) -> None:
    plan = BatchPlan((1.0,), (1, 2), 1, max_latency_s=0.0, device="cpu")
    assert [point.batch for point in measure_curve("ctranslate2", "small", folder, "int8", plan).points] == [
        1
    ]


def test_what_cannot_be_loaded_says_why(folder: Path, tmp_path: Path) -> None:
    refused = measure_curve("ctranslate2", "small", folder, "float16", PLAN)
    assert (refused.failure, refused.points) == ("this device does not compute in it", ())
    missing = measure_curve("ctranslate2", "small", tmp_path, "int8", PLAN)
    assert missing.failure.startswith("ModelUnavailable: ")
    assert missing.best_streams == 0


def test_the_peak_is_that_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([5, 9])
    monkeypatch.setattr(gpu_batches, "memory_in_use", lambda device: next(readings, 7))
    assert peak_memory(lambda: None, "cuda", every_s=60) == 9
    monkeypatch.setattr(gpu_batches, "memory_in_use", lambda device: None)
    assert peak_memory(lambda: None, "cuda", every_s=60) is None


def test_streams_of_a_point() -> None:
    assert Point(8, 3.0, (0.5, 0.1, 0.2)).latency_s == 0.2
    assert Point(8, 3.0, (0.5, 0.1, 0.2)).streams == pytest.approx(120)


@pytest.mark.extras
def test_engines_that_check_drafts_are_timed_with_one(folder: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    plan = BatchPlan(windows_s=(2.0,), batches=(2,), repeats=2, device="cpu")
    [point] = measure_curve("torch", "small", folder, "float32", plan).measured
    assert point.drafted_s is not None
    assert point.drafted_s < point.latency_s
    [plain] = measure_curve("ctranslate2", "small", folder, "int8", plan).measured
    assert plain.drafted_s is None
