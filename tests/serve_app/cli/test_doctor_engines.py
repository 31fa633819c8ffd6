"""What `sotto doctor` measures of engines, and that the choice goes by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.asr.engines.choice import CPU_ENGINES, choose_engine
from serve_app.asr.engines.measured import read_costs
from serve_app.cli import doctor, here
from serve_app.cli.here import EngineCost, Here, measure_engines
from serve_app.models import resolve_model
from serve_app.settings import Settings, load_settings


@pytest.mark.models
def test_engines_are_measured_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "MEASURE_ENGINE_S", 0.0)
    folder = resolve_model("tiny.en", offline=True).path
    flags = {"model": str(folder), "device": "cpu", "num_workers": 1, "cache_dir": tmp_path, "offline": True}
    costs = measure_engines(load_settings(flags=flags, environ={}))
    assert {cost.engine for cost in costs} == set(CPU_ENGINES)
    assert all(cost.interims_s > 0 and cost.final_s > 0 for cost in costs)
    kept = read_costs(folder, tmp_path)
    assert kept == {cost.engine: cost.interims_s + cost.final_s for cost in costs}
    assert choose_engine("auto", folder, device="cpu", cache_dir=tmp_path) == costs[0].engine
    assert min(kept.values()) == kept[costs[0].engine]


def test_there_is_nothing_to_measure_where_an_engine_was_set() -> None:
    assert measure_engines(load_settings(flags={"engine": "onnx"}, environ={})) == []


def test_findings_name_the_engine_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = [EngineCost("onnx", 0.1, 0.02), EngineCost("ctranslate2", 0.2, 0.03)]
    monkeypatch.setattr(here, "measure_engines", lambda settings: costs)
    monkeypatch.setattr(here, "speakers_here", lambda settings: Here(9, "tiny.en", "measured now"))
    found = {finding.what: finding.detail for finding in doctor._capacity()}
    ours = "120 ms of CPU a second of live audio (interims 100, finals 20), chosen from now on"
    assert found["engine onnx"] == ours
    assert found["engine ctranslate2"].endswith("(interims 200, finals 30)")
    assert "9 at once" in found["speakers"]


def test_a_cache_that_cannot_be_written_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: Settings) -> list[EngineCost]:
        raise PermissionError("the cache is not ours")

    monkeypatch.setattr(here, "measure_engines", refuse)
    monkeypatch.setattr(here, "speakers_here", lambda settings: Here(9, "tiny.en", "measured now"))
    found = {finding.what: (finding.level, finding.detail) for finding in doctor._capacity()}
    assert found["engines"] == (doctor.WARN, "the cache is not ours")
