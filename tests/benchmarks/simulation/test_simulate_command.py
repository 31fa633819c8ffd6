"""`python -m benchmarks.simulation` from its arguments to its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.simulation import __main__ as simulate
from benchmarks.simulation.__main__ import main, parse_arguments, scaled_before_late
from benchmarks.simulation.replicas import ScaleEvent
from benchmarks.simulation.service import SimulatedRun, Snapshot
from benchmarks.simulation.sessions import Results

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--sessions", "0"],
        ["--seconds", "-1"],
        ["--min-replicas", "3"],
        ["--batch", "65"],
        ["--paired", "-1"],
        ["--startup", "0"],
    ],
)
def test_senseless_arguments(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse_arguments(wrong)
    assert error.value.code == 2
    assert "--" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("on", [[], ["--gpu", "H200"]])
def test_a_run_prints_a_table_and_writes_json(
    on: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, costs = tmp_path / "out.json", tmp_path / "costs.json"
    arguments = ["--sessions", "6", "--seconds", "30", "--max-replicas", "3", *on]
    assert main([*arguments, "--json", str(path), "--save-costs", str(costs)]) == 0
    assert "Simulated service" in capsys.readouterr().out
    result = json.loads(path.read_text())
    assert result["finals"] > 20
    assert result["final_latency_ms"]["p95"] > 0
    assert result["flaps"] == 0
    again = tmp_path / "again.json"
    assert main([*arguments, "--costs", str(costs), "--json", str(again)]) == 0
    assert json.loads(again.read_text())["finals"] == result["finals"]


@pytest.mark.parametrize(
    "unknown", [["--gpu", "B9000"], ["--costs", "/nonexistent.json"], ["--gpu", "H200", "--model", "x"]]
)
def test_what_is_unknown_is_said(unknown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sessions", "1", *unknown]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def simulated_run(up_at_s: float | None, late_at_s: float | None) -> SimulatedRun:
    events = () if up_at_s is None else (ScaleEvent(up_at_s, 1, 2, "load"),)
    p95 = {late_at_s: 2_000.0}
    snapshots = tuple(Snapshot(at_s, 1, 1, 1, 0.0, p95.get(at_s, 100.0)) for at_s in (5.0, 10.0, 15.0))
    return SimulatedRun(Results(), snapshots, events, (), 0)


def test_whether_it_scaled_before_it_was_late() -> None:
    assert scaled_before_late(simulated_run(7.0, 10.0)) is True
    assert scaled_before_late(simulated_run(7.0, None)) is True
    assert scaled_before_late(simulated_run(12.0, 10.0)) is False
    assert scaled_before_late(simulated_run(None, 10.0)) is None
    assert simulate.FINAL_P95_BAR_MS == 900.0
