"""The benchmark's command: arguments, a machine without a card, and a small run on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.batches import Curve, Point
from serve_app.models.footprint import Architecture

SMALL = Architecture(64, 1, 1, 3108, 80)


def test_a_machine_without_a_card_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "has_card", lambda: False)
    assert gpu.main(["--json", str(tmp_path / "x.json")]) == 1
    said = capsys.readouterr()
    assert "No GPU can be used here" in said.err
    assert "nothing was measured" in said.err
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--models", "gigantic"],
        ["--engines", "abacus"],
        ["--batches", "0,1"],
        ["--batches", "2048"],
        ["--batches", "one"],
        ["--windows", "31"],
        ["--repeats", "0"],
    ],
)
def test_arguments_are_checked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.parse_arguments(arguments)
    assert "error" in capsys.readouterr().err


def test_defaults_are_large_on_a_card_and_small_on_a_cpu() -> None:
    card, cpu = gpu.parse_arguments([]), gpu.parse_arguments(["--device", "cpu"])
    assert card.models[-1] == "large-v3-turbo"
    assert card.precisions == ["int8", "int8_float16", "float16", "bfloat16"]
    assert card.batches[-1] == 64
    assert (cpu.models, cpu.batches) == (["tiny"], [1, 2, 4])


def test_torch_is_not_asked_for_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "is_installed", lambda engine: True)
    found = list(gpu.combinations(["torch", "ctranslate2"], ["int8", "int8_float16", "float16"]))
    assert found == [
        ("ctranslate2", "int8"),
        ("ctranslate2", "int8_float16"),
        ("ctranslate2", "float16"),
        ("torch", "float16"),
    ]
    monkeypatch.setattr(gpu, "is_installed", lambda engine: engine == "torch")
    assert {engine for engine, _ in gpu.combinations(["torch", "ctranslate2"], ["float16"])} == {"torch"}


def test_rows_are_those_of_the_fastest() -> None:
    slow = Curve("torch", "tiny", "float16", (Point(1, 3.0, (0.4, 0.4)),))
    fast = Curve("ctranslate2", "tiny", "float16", (Point(1, 3.0, (0.2, 0.3)), Point(2, 3.0, failure="full")))
    other = Curve("ctranslate2", "base", "int8", failure="out of memory")
    assert list(gpu.rows_of([slow, fast, other])) == [
        {
            "model": "tiny",
            "engine": "ctranslate2",
            "compute_type": "float16",
            "batch": 1,
            "audio_s": 3.0,
            "busy_s": busy_s,
        }
        for busy_s in (0.2, 0.3)
    ]


def curve_of(fixed_s: float, per_item_s: float = 0.0, batches: tuple[int, ...] = (1, 2, 4, 8)) -> Curve:
    points = [
        Point(batch, audio_s, (fixed_s + per_item_s * batch,) * 2)
        for batch in batches
        for audio_s in (3.0, 8.0)
    ]
    return Curve("ctranslate2", "tiny", "float16", tuple(points))


def test_how_many_speakers_a_card_holds() -> None:
    assert gpu.speakers_held(curve_of(2.0), 500) == 0
    assert gpu.speakers_held(curve_of(0.1, batches=(1,)), 500) is None
    single = gpu.speakers_held(curve_of(0.05, batches=(1, 1, 1, 1)), 900)
    batched, patient = (gpu.speakers_held(curve_of(0.05, 0.001), bar_ms) for bar_ms in (900, 2_000))
    assert single is not None
    assert batched is not None
    assert patient is not None
    assert 0 < 2 * single < batched <= patient


def test_a_small_run_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Spec:
        name = "tiny"
        architecture = SMALL

    def nothing_here(name: str, **more: Any) -> None:
        raise gpu.ModelUnavailable(name)

    monkeypatch.setattr(gpu, "find_spec", lambda name: Spec)
    monkeypatch.setattr(gpu, "resolve_model", nothing_here)
    file = tmp_path / "out" / "gpu.json"
    arguments = ["--device", "cpu", "--engines", "ctranslate2", "--windows", "1,2", "--batches", "1,2"]
    assert gpu.main([*arguments, "--precisions", "int8,float16", "--repeats", "2", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["device"].startswith("CPU")
    assert result["weights"] == {"tiny": "random"}
    int8, float16 = result["curves"]
    assert [(point["audio_s"], point["batch"]) for point in int8["points"]] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]
    assert all(point["latency_s"] > 0 and point["streams"] > 0 for point in int8["points"])
    assert int8["speakers"] >= 1
    assert (float16["failure"], float16["speakers"]) == ("this device does not compute in it", None)
    assert {(row["model"], row["batch"]) for row in result["rows"]} == {("tiny", 1), ("tiny", 2)}
    assert len(result["rows"]) == 8
    printed = capsys.readouterr().out
    assert "Batches on CPU" in printed
    assert "Speakers on CPU" in printed


def test_a_model_that_is_here_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Found:
        path = tmp_path

    monkeypatch.setattr(gpu, "resolve_model", lambda name, **more: Found)
    assert gpu.model_folder("base", tmp_path) == (tmp_path, "real")
