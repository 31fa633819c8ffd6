from pathlib import Path

import pytest

from serve_app.launch import plan as plan_module
from serve_app.launch.cluster import ClusterOptions
from serve_app.launch.plan import plan_service
from serve_app.settings import SettingsError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "STT_PORT",
        "STT_HOST",
        "STT_PROFILE",
        "STT_MODEL",
        "BIND_PORT",
        "API_PORT",
        "STT_API_KEY",
        "API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plan_module, "num_cuda_devices", lambda: 0)


@pytest.mark.parametrize(("num_devices", "profile"), [(0, "cpu"), (2, "gpu")])
def test_the_profile_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, num_devices: int, profile: str
) -> None:
    monkeypatch.setattr(plan_module, "num_cuda_devices", lambda: num_devices)
    plan = plan_service({})
    assert plan.profile == profile
    assert plan.config["applications"][0]["args"]["profile"] == profile


def test_a_flag_beats_the_environment_and_the_environment_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_service({}).config["http_options"]["port"] == 8000
    monkeypatch.setenv("STT_PORT", "9001")
    assert plan_service({}).config["http_options"]["port"] == 9001
    assert plan_service({"port": 9002}).config["http_options"]["port"] == 9002


def test_only_flags_reach_the_graphs_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STT_API_KEY", "do not write me down")
    plan = plan_service({"model": "tiny.en", "language": None})
    settings = dict(plan.config["applications"][0]["args"]["settings"])
    assert len(settings.pop("ticket_secret")) >= 32
    assert settings == {"model": "tiny.en"}
    assert "do not write me down" not in repr(plan.config)
    assert plan.warnings == ()


def test_a_ticket_secret_is_made_once_a_start_unless_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def secret() -> str | None:
        settings = plan_service({}).config["applications"][0]["args"].get("settings", {})
        return settings.get("ticket_secret")

    assert secret() != secret()
    monkeypatch.setenv("STT_TICKET_SECRET", "mine, the same everywhere")
    assert secret() is None


def test_ray_lets_the_longest_session_finish() -> None:
    assert plan_service({"max_session_s": "20000"}).cluster.max_session_s == 20_000
    size = ClusterOptions(num_cpus=3, num_gpus=1)
    cluster = plan_service({"max_session_s": "60"}, cluster=size).cluster
    assert (cluster.max_session_s, cluster.num_cpus, cluster.num_gpus) == (14_400, 3, 1)


def test_workers_set_the_ingress_replicas() -> None:
    deployments = plan_service({"workers": "3"}).config["applications"][0]["deployments"]
    ingress = next(entry for entry in deployments if entry["name"] == "Ingress")
    assert ingress["num_replicas"] == 3
    assert "autoscaling_config" not in ingress


def test_a_config_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "http_options: {port: 7000}\napplications: [{import_path: a:b, args: {settings: {language: pt}}}]"
    )
    plan = plan_service({}, config_path=path)
    assert plan.settings.language == "pt"
    assert plan.config["http_options"] == {"host": "127.0.0.1", "port": 7000}


@pytest.mark.parametrize(("placement", "kept"), [("auto", False), ("ingress", False), ("deployment", True)])
def test_options_of_a_voice_detector_that_the_graph_does_not_have_are_left_out(
    tmp_path: Path, placement: str, kept: bool
) -> None:
    """Serve refuses a config file that has some; one of ours had them, and so may those made from it."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "applications: [{import_path: a:b, deployments: [{name: Ingress}, {name: VoiceActivity}]}]"
    )
    plan = plan_service({"profile": "cpu", "vad_placement": placement}, config_path=path)
    names = [entry["name"] for entry in plan.config["applications"][0]["deployments"]]
    assert names == (["Ingress", "VoiceActivity"] if kept else ["Ingress"])


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="no such setting"):
        plan_service({"modle": "tiny"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "sotto.example", "[::]"])
def test_other_machines_are_not_served_without_a_key_unless_that_is_wanted(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--allow-anonymous") as refused:
        plan_service({"host": host})
    assert "STT_API_KEY" in str(refused.value)
    for way in ({"allow_anonymous": "true"}, {"api_key": "k"}, {"keys_file": str(tmp_path / "keys.json")}):
        assert plan_service({"host": host, **way}).config["http_options"]["host"] == host
    plan_service({"host": host, "keys_in_redis": "true", "redis_url": "redis://127.0.0.1"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_this_machine_is_served_without_a_key(host: str) -> None:
    assert plan_service({"host": host}).config["http_options"]["host"] == host


def test_a_config_file_that_listens_elsewhere_needs_a_key_too(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(
        "http_options: {host: 0.0.0.0, port: 8000}\n"
        "applications: [{name: sotto, import_path: 'graphs.full:build', args: {profile: cpu}}]\n"
    )
    with pytest.raises(SettingsError, match="allow-anonymous"):
        plan_service({}, config_path=path)
    plan_service({"host": "127.0.0.1"}, config_path=path)


def test_a_file_of_keys_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STT_KEYS_FILE", "keys.json")
    arguments = plan_service({}).config["applications"][0]["args"]["settings"]
    assert arguments["keys_file"] == str(tmp_path / "keys.json")


@pytest.mark.parametrize(("load_s", "start_s"), [(300, 420), (10, 300), (3600, 3720)])
def test_a_start_waits_longer_than_its_models_may_load(load_s: int, start_s: int) -> None:
    plan = plan_service({"profile": "cpu", "model_load_timeout_s": load_s})
    assert plan.start_timeout_s == start_s
