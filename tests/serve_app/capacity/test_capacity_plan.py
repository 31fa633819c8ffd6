"""Capacity planning: figures and where they are from, cards, machines, prices, and what nobody knows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from serve_app.capacity.plan import (
    GPU_SHARES,
    MAX_BUSY,
    PlanRequest,
    Speaking,
    plan,
)
from serve_app.capacity.throughput import (
    CARDS,
    CPU_MACHINES,
    DecodeCost,
    MeasuredCards,
    Origin,
    UnknownFigure,
    card_cost,
    find_card,
    known_models,
)
from serve_app.cli.app import app
from serve_app.launch.deploy_config import deployment, read_deploy_config

ON_H200 = PlanRequest(500, "large-v3-turbo", "H200")


def measurement(
    tmp_path: Path, device: str = "NVIDIA H200", models: tuple[str, ...] = ("large-v3-turbo", "small")
) -> Path:
    cost = DecodeCost(0.004, 0.002, 0.0002)
    rows = [
        {"model": model, "batch": batch, "audio_s": audio_s, "busy_s": cost.mean_s([audio_s] * batch)}
        for model in models
        for batch in (1, 4, 8)
        for audio_s in (1.0, 3.0, 8.0)
    ]
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"device": device, "rows": rows}))
    return path


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("H200", "H200"),
        ("nvidia-h200", "H200"),
        ("NVIDIA RTX 4090", "RTX 4090"),
        ("l40s", "L40S"),
        ("l4", "L4"),
    ],
)
def test_a_card_in_any_spelling(spelling: str, name: str) -> None:
    assert find_card(spelling).name == name


@pytest.mark.parametrize("unknown", ["", "B9000", "radeon", "4"])
def test_an_unknown_card_is_answered_with_the_known_ones(unknown: str) -> None:
    with pytest.raises(UnknownFigure, match=r"known are .*L4.*H200.*cpu"):
        find_card(unknown)


def test_every_known_model_has_a_figure_on_every_card() -> None:
    for model in known_models():
        for card in CARDS:
            known = card_cost(model, card)
            assert known.origin is Origin.ESTIMATED
            assert known.cost.mean_s([3.0]) > 0


def test_an_estimate_repeats_its_own_source_with_its_margin() -> None:
    """Thirteen minutes with turbo on the card of the published run took 19.2 s."""
    card = find_card("RTX 2080 Ti")
    whole_s = 26 * card_cost("large-v3-turbo", card).cost.mean_s([30.0])
    assert whole_s / 2 == pytest.approx(19.155 + 26 * 0.01)


def test_a_faster_card_is_never_slower() -> None:
    slow, fast = (card_cost("large-v3", find_card(name)).cost for name in ("A100", "H200"))
    assert fast.mean_s([5.0] * 8) < slow.mean_s([5.0] * 8)


def test_an_estimate_says_that_it_is_one() -> None:
    answer = plan(ON_H200)
    assert answer.origin is Origin.ESTIMATED
    assert any("estimated" in source for source in answer.sources)
    assert answer.units >= 1
    assert answer.replicas["final"] == answer.units
    assert sum(answer.fractions.values()) <= 1 - max(answer.fractions.values())


def test_measured_figures_win_on_their_own_card_only(tmp_path: Path) -> None:
    measured = MeasuredCards.read(measurement(tmp_path))
    assert plan(ON_H200, measured).origin is Origin.MEASURED
    assert plan(replace(ON_H200, gpu="A100"), measured).origin is Origin.ESTIMATED
    half = MeasuredCards.read(measurement(tmp_path, models=("small",)))
    assert plan(ON_H200, half).origin is Origin.ESTIMATED


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"device": "x"}',
        '{"device": "H200", "rows": [{"model": "small"}]}',
        '{"rows": 3}',
        '{"device": "H200", "rows": [{"model": "small", "batch": 1000000000, "audio_s": 1, "busy_s": 1}]}',
    ],
)
def test_files_that_hold_no_measurement(tmp_path: Path, content: str) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"gpu\.json"):
        MeasuredCards.read(path)


@given(
    st.integers(1, 20_000),
    st.integers(0, 5_000),
    st.sampled_from([card.name for card in CARDS if card.memory_gb >= 24]),
)
def test_more_speakers_never_need_fewer_cards(speakers: int, more: int, gpu: str) -> None:
    few = plan(replace(ON_H200, speakers=speakers, gpu=gpu, p95_ms=60_000.0))
    many = plan(replace(ON_H200, speakers=speakers + more, gpu=gpu, p95_ms=60_000.0))
    assert many.units >= few.units
    assert few.busy_share is not None
    assert few.busy_share <= MAX_BUSY + 0.01


def test_a_tighter_bar_needs_more_cards() -> None:
    loose = plan(replace(ON_H200, speakers=40, gpu="L4", p95_ms=9_000.0))
    tight = plan(replace(ON_H200, speakers=40, gpu="L4", p95_ms=1_500.0))
    assert tight.units > loose.units
    assert tight.expected_p95_ms <= 1_500
    assert tight.within_bar


def test_a_bar_that_no_number_of_cards_meets_is_said() -> None:
    answer = plan(replace(ON_H200, gpu="T4", p95_ms=106.0))
    assert not answer.within_bar


def test_less_speech_needs_fewer() -> None:
    quiet = replace(ON_H200, speaking=Speaking(speech_share=0.3))
    assert plan(quiet).units < plan(ON_H200).units


def test_a_model_that_does_not_fit_its_share() -> None:
    with pytest.raises(UnknownFigure, match="GB"):
        plan(replace(ON_H200, model="large-v3", gpu="RTX 2080 Ti", interim_model="large-v3"))


def test_on_cpus_the_measured_runs_answer() -> None:
    answer = plan(PlanRequest(48, "tiny.en", "cpu", price=0.1))
    assert (answer.units, answer.expected_p95_ms, answer.origin) == (1, 492, Origin.MEASURED)
    assert (answer.price_per_hour, answer.price_per_month) == (0.1, 73.0)
    more = plan(PlanRequest(49, "tiny.en", "CPU"))
    assert more.units == 2
    assert more.expected_p95_ms < 208


def test_on_cpus_between_two_runs_and_beyond_the_bar() -> None:
    assert plan(PlanRequest(36, "tiny.en", "cpu")).expected_p95_ms == 276
    assert plan(PlanRequest(48, "tiny.en", "cpu", p95_ms=250.0)).units == 2
    with pytest.raises(UnknownFigure, match="p95 105 ms"):
        plan(PlanRequest(1, "tiny.en", "cpu", p95_ms=50.0))
    with pytest.raises(UnknownFigure, match=", ".join(CPU_MACHINES)):
        plan(PlanRequest(1, "large-v3", "cpu"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"speakers": 0},
        {"speakers": 10**9},
        {"price": -1.0},
        {"price": float("nan")},
        {"batch": 0},
        {"p95_ms": 0},
    ],
)
def test_senseless_requests(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        replace(ON_H200, **wrong)  # type: ignore[arg-type]


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["plan", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_a_plan_with_its_sources_and_price() -> None:
    status, out, _ = run("--speakers", "500", "--model", "large-v3-turbo", "--gpu", "H200", "--price", "3.5")
    assert status == 0
    assert "estimated" in out
    assert "An estimate" in out
    assert "a month of 730 hours" in out


def test_the_command_as_json_with_measured_figures(tmp_path: Path) -> None:
    path = measurement(tmp_path)
    status, out, _ = run(
        "--speakers", "500", "--model", "turbo", "--gpu", "H200", "--figures", str(path), "--json"
    )
    assert status == 0
    answer = json.loads(out)
    assert (answer["model"], answer["origin"]) == ("large-v3-turbo", "measured")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--gpu", "B9000"),
        ("--gpu", "H200", "--model", "nope"),
        ("--gpu", "cpu", "--model", "small"),
        ("--gpu", "H200", "--figures", "/nonexistent.json"),
        ("--gpu", "H200", "--speech-share", "0"),
    ],
)
def test_the_command_says_what_is_unknown(arguments: tuple[str, ...]) -> None:
    status, out, errors = run("--speakers", "5", *arguments)
    assert status == 2
    assert out == ""
    assert errors.startswith("error: ")


def test_the_command_fails_where_the_bar_cannot_be_met() -> None:
    status, out, _ = run("--speakers", "5", "--gpu", "T4", "--p95-ms", "106")
    assert status == 1
    assert "too late" in out


def test_shares_are_those_that_are_deployed() -> None:
    config = read_deploy_config(Path(__file__).parents[3] / "serve_config.yaml")
    names = {
        "final": "FinalAsr",
        "interim": "InterimAsr",
        "voice": "VoiceActivity",
        "diarization": "Diarization",
    }
    declared = {
        kind: deployment(config, name)["ray_actor_options"]["num_gpus"] for kind, name in names.items()
    }
    assert declared == GPU_SHARES
