"""`sotto serve` on a machine with cards: what sizing changes in settings and Serve config, and what not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes.nvml import GIB, FakeCard, FakeNvml, h200, rtx_2060, turing_12gb
from serve_app.capacity.machine import read_gpus
from serve_app.launch import gpu_plan
from serve_app.launch import plan as plan_module
from serve_app.launch.cluster import ClusterOptions
from serve_app.launch.gpu_plan import TOO_SMALL, UNREADABLE, wanted_of
from serve_app.launch.plan import ServicePlan, plan_service
from serve_app.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("STT_PROFILE", "STT_MODEL", "STT_DEVICE", "STT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends that this machine has such cards."""

    def has(*cards: FakeCard, readable: bool = True) -> None:
        library = FakeNvml(cards, has_driver=readable)
        monkeypatch.setattr(plan_module, "num_cuda_devices", lambda: len(cards))
        monkeypatch.setattr(gpu_plan, "read_gpus", lambda: read_gpus(library))

    return has


def deployments(plan: ServicePlan) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in plan.config["applications"][0]["deployments"]}


def graph_settings(plan: ServicePlan) -> dict[str, Any]:
    settings = dict(plan.config["applications"][0]["args"]["settings"])
    del settings["ticket_secret"]
    return settings


def test_two_small_cards(machine: Any) -> None:
    machine(rtx_2060(), rtx_2060())
    plan = plan_service({})
    assert plan.profile == "gpu"
    assert graph_settings(plan) == {
        "interim_model": "small",
        "final_model": "large-v3-turbo",
        "interim_compute": "float16",
        "final_compute": "int8_float16",
        "num_workers": 2,
        "max_batch_size": 5,
    }
    assert plan.settings.final_model_name == "large-v3-turbo"
    planned = deployments(plan)
    fraction = planned["FinalAsr"]["ray_actor_options"]["num_gpus"]
    assert planned["InterimAsr"]["ray_actor_options"] == {"num_cpus": 0.5, "num_gpus": fraction}
    assert planned["VoiceActivity"]["ray_actor_options"]["num_gpus"] == 0
    for name in ("FinalAsr", "InterimAsr"):
        scaling = planned[name]["autoscaling_config"]
        assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 2)
        assert scaling["policy"]["policy_function"] == "deployments.autoscaling:by_waiting_audio"
    assert "no bfloat16" in plan.reasons[0]


def test_two_larger_cards(machine: Any) -> None:
    machine(turing_12gb(), turing_12gb())
    settings = graph_settings(plan_service({"profile": "gpu"}))
    assert settings["final_compute"] == settings["interim_compute"] == "float16"
    assert settings["max_batch_size"] == 8


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ({"model": "small"}, {"model": "small"}),
        ({"final_model": "medium"}, {"final_model": "medium", "interim_model": "small"}),
        ({"compute_type": "bfloat16"}, {"compute_type": "bfloat16"}),
        ({"num_workers": "3"}, {"num_workers": "3"}),
        ({"max_batch_size": "2"}, {"max_batch_size": "2"}),
        ({"final_model": None, "language": "pt"}, {"language": "pt", "final_model": "large-v3-turbo"}),
    ],
)
def test_what_was_given_is_kept(machine: Any, flags: dict[str, Any], kept: dict[str, Any]) -> None:
    machine(h200())
    settings = graph_settings(plan_service(flags))
    assert {name: settings.get(name) for name in kept} == kept
    if "model" in flags:
        assert "interim_model" not in settings
        assert "final_model" not in settings
    if "compute_type" in flags:
        assert "final_compute" not in settings


def test_the_environment_counts_as_given(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(h200())
    monkeypatch.setenv("STT_FINAL_MODEL", "medium")
    plan = plan_service({})
    assert "final_model" not in graph_settings(plan)
    assert plan.settings.final_model_name == "medium"


def test_only_models_that_are_here_when_offline(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(h200())
    monkeypatch.setattr(gpu_plan, "_is_here", lambda name, settings: name == "base")
    assert graph_settings(plan_service({"offline": True}))["final_model"] == "base"


def test_memory_is_planned_for_the_most_beams() -> None:
    assert wanted_of(Settings.from_dict({"interim_beam_size": 2, "offline_beam_size": 7})).beam_size == 7


def test_nothing_is_sized_where_the_cards_cannot_be_read(machine: Any) -> None:
    machine(h200(), readable=False)
    plan = plan_service({})
    assert (plan.profile, plan.reasons, graph_settings(plan)) == ("gpu", (UNREADABLE,), {})
    assert deployments(plan)["FinalAsr"]["ray_actor_options"]["num_gpus"] == 0.35


def test_cards_that_are_too_small_leave_the_cpu(machine: Any) -> None:
    machine(FakeCard("small", GIB, (7, 5)))
    plan = plan_service({})
    assert plan.profile == "cpu"
    assert TOO_SMALL in plan.reasons[0]
    assert plan.config["applications"][0]["args"]["profile"] == "cpu"
    forced = plan_service({"profile": "gpu"})
    assert (forced.profile, forced.reasons) == ("gpu", (TOO_SMALL,))


def test_fewer_cards_than_there_are(machine: Any) -> None:
    machine(h200(), h200())
    plan = plan_service({}, cluster=ClusterOptions(num_gpus=1))
    assert deployments(plan)["FinalAsr"]["autoscaling_config"]["max_replicas"] == 2
    assert plan.reasons[0].startswith("1 GPU:")


@pytest.mark.parametrize(
    "more",
    [
        {"flags": {"profile": "cpu"}},
        {"flags": {"device": "cpu", "profile": "gpu"}},
        {"cluster": ClusterOptions(address="auto")},
        {"config": True},
    ],
)
def test_cards_of_others_and_configs_of_ones_own_are_left_alone(
    machine: Any, tmp_path: Path, more: dict[str, Any]
) -> None:
    machine(h200())
    path = None
    if more.get("config"):
        path = tmp_path / "mine.yaml"
        path.write_text("applications: [{import_path: a:b, deployments: [{name: FinalAsr}]}]")
    plan = plan_service(more.get("flags", {}), cluster=more.get("cluster"), config_path=path)
    assert plan.reasons == ()
    assert "final_model" not in plan.config["applications"][0]["args"]["settings"]
