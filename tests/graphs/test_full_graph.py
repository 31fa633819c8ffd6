"""What the builder binds, by profile and settings, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from ray import serve

from graphs import full
from serve_app.speakers.ports import SpeakerStatus


def bound(application: serve.Application) -> dict[str, dict[str, Any]]:
    """Deployment name to its actor options, of everything that the application is made of."""
    found: dict[str, dict[str, Any]] = {}

    def visit(node: serve.Application) -> None:
        deployment = node._bound_deployment
        found[deployment.name] = dict(deployment.ray_actor_options or {})
        for argument in (*deployment.init_args, *deployment.init_kwargs.values()):
            if isinstance(argument, serve.Application):
                visit(argument)

    visit(application)
    return found


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "status_of", lambda _: SpeakerStatus("pyannote"))


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "status_of", lambda _: SpeakerStatus(missing="not here"))


@pytest.mark.usefixtures("missing")
def test_a_laptop_without_extras_has_two_deployments() -> None:
    assert set(bound(full.build({"profile": "cpu"}))) == {"Ingress", "Recogniser"}


@pytest.mark.usefixtures("missing")
@pytest.mark.parametrize(
    ("profile", "placement", "has_deployment"),
    [
        ("cpu", "deployment", True),
        ("cpu", "ingress", False),
        ("gpu", "ingress", False),
        ("gpu", "auto", True),
    ],
)
def test_where_voice_is_detected_is_one_setting(profile: str, placement: str, has_deployment: bool) -> None:
    graph = bound(full.build({"profile": profile, "settings": {"vad_placement": placement}}))
    assert ("VoiceActivity" in graph) == has_deployment


@pytest.mark.usefixtures("installed")
def test_with_the_extra_there_is_a_diarizer_in_a_process_of_its_own() -> None:
    graph = bound(full.build({"profile": "cpu"}))
    assert set(graph) == {"Ingress", "Recogniser", "Diarization"}
    assert "num_gpus" not in graph["Diarization"]


@pytest.mark.usefixtures("missing")
def test_on_gpus_every_model_has_a_share_of_a_card() -> None:
    """What the config file declares is there, whatever is installed where the graph is built."""
    graph = bound(full.build({"profile": "gpu"}))
    shares = {name: options.get("num_gpus", 0) for name, options in graph.items()}
    assert shares == {
        "Ingress": 0,
        "VoiceActivity": 0,
        "InterimAsr": 0.15,
        "FinalAsr": 0.35,
        "Diarization": 0.1,
    }


@pytest.mark.usefixtures("installed")
def test_speakers_may_be_told_apart_on_the_cpu_beside_a_gpu() -> None:
    graph = bound(full.build({"profile": "gpu", "settings": {"diarization_device": "cpu"}}))
    assert "num_gpus" not in graph["Diarization"]


@pytest.mark.usefixtures("missing")
def test_short_audio_gets_a_recogniser_without_a_card_where_it_is_asked_for() -> None:
    graph = bound(full.build({"profile": "gpu", "settings": {"short_audio_on_cpu_s": 3}}))
    assert "num_gpus" not in graph["ShortAsr"]
    assert "ShortAsr" not in bound(full.build({"profile": "cpu", "settings": {"short_audio_on_cpu_s": 3}}))


@pytest.mark.usefixtures("missing")
def test_the_result_cache_is_a_deployment_of_its_own_where_it_is_on() -> None:
    graph = bound(full.build({"profile": "cpu", "settings": {"result_cache_enabled": True}}))
    assert set(graph) == {"Ingress", "Recogniser", "ResultCacheHost"}
    assert graph["ResultCacheHost"]["num_cpus"] == 0


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown graph arguments"):
        full.build({"modle": "base"})
