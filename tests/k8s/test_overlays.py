"""Each overlay is well, and is what its name says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from planting import Built, Manifests, cluster

import serve_app
from k8s.check import problems
from k8s.check.kustomize import OVERLAYS, overlay_names
from k8s.check.manifests import of_kind, pod_templates
from k8s.check.wiring_rules import SECRETS
from serve_app.launch.deploy_config import deployment
from serve_app.launch.environment import RayEnvironment
from serve_app.launch.gpu_plan import NEVER_ALONE, SPEAKER_LABEL

CHECKOUT = OVERLAYS.parents[1]

NOT_IN_A_POD = {
    "RAY_AUTH_MODE": "KubeRay sets it with the token",
    "RAY_AUTH_TOKEN": "KubeRay takes it from the Secret",
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "a pod has /tmp to itself",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "as above",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "as above",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "as above",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "as above",
    "RAY_SERVE_HAPROXY_STATS_PORT": "a pod has its ports to itself",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "as above",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "as above",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "sockets get time to move where others take them",
}


def config_map(manifests: Manifests, name: str) -> dict[str, str]:
    (found,) = (each for each in of_kind(manifests, "ConfigMap") if each["metadata"]["name"].startswith(name))
    return found["data"]


def gpus(manifests: Manifests) -> list[str]:
    return [
        container["resources"]["limits"]["nvidia.com/gpu"]
        for pod in pod_templates(manifests)
        for container in pod.containers
        if "nvidia.com/gpu" in container["resources"].get("limits", {})
    ]


def test_all_four_are_there() -> None:
    assert overlay_names() == ["air-gapped", "cpu", "multi-gpu", "single-gpu"]


@pytest.mark.parametrize("overlay", overlay_names())
def test_an_overlay_is_well(overlay: str, built: Built) -> None:
    assert [str(each) for each in problems(built(overlay))] == []


@pytest.mark.parametrize("overlay", overlay_names())
def test_every_overlay_has_all_parts(overlay: str, built: Built) -> None:
    kinds = {manifest["kind"] for manifest in built(overlay)}
    assert kinds >= {
        "Namespace", "RayService", "StatefulSet", "Service", "ConfigMap", "Gateway", "HTTPRoute",
        "ClientTrafficPolicy", "BackendTrafficPolicy", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor",
        "PrometheusRule",
    }  # fmt: skip


@pytest.mark.parametrize("overlay", overlay_names())
def test_the_version_of_ray_is_the_one_that_is_installed(overlay: str, built: Built) -> None:
    pinned = re.search(
        r"^ray\[serve\]==(\S+)$", (CHECKOUT / "requirements" / "runtime.in").read_text(), re.MULTILINE
    )
    assert pinned is not None
    assert cluster(built(overlay))["rayVersion"] == pinned[1]


@pytest.mark.parametrize(("overlay", "kind"), [("single-gpu", "-cuda"), ("multi-gpu", "-cuda"), ("cpu", "")])
def test_the_image_is_of_this_version(overlay: str, kind: str, built: Built) -> None:
    images = {each["image"] for pod in pod_templates(built(overlay)) for each in pod.all_containers}
    assert {image for image in images if image.startswith("sotto")} == {
        f"sotto:{serve_app.__version__}{kind}"
    }


@pytest.mark.parametrize("overlay", overlay_names())
def test_ray_runs_as_on_one_machine(overlay: str, built: Built, tmp_path: Path) -> None:
    values = config_map(built(overlay), "sotto-ray")
    on_one_machine = RayEnvironment(
        runtime_dir=tmp_path,
        source_dir=tmp_path,
        stats_port=1,
        metrics_port=2,
        fallback_port=3,
        auth_token="",
        max_session_s=14400,
    ).variables()
    expected = {name: value for name, value in on_one_machine.items() if name not in NOT_IN_A_POD}
    assert {name: values.get(name) for name in expected} == expected


@pytest.mark.parametrize("overlay", ["single-gpu", "multi-gpu", "air-gapped"])
def test_one_card_to_a_worker(overlay: str, built: Built) -> None:
    manifests = built(overlay)
    assert set(gpus(manifests)) == {"1"}
    for group in cluster(manifests)["workerGroupSpecs"]:
        assert group["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert config_map(manifests, "sotto-settings")["STT_FINAL_MODEL"] == "large-v3-turbo"


def test_no_card_without_gpus(built: Built) -> None:
    manifests = built("cpu")
    assert gpus(manifests) == []
    assert "STT_FINAL_MODEL" not in config_map(manifests, "sotto-settings")
    assert not of_kind(manifests, "Job", "PersistentVolumeClaim")


def test_one_card_is_no_place_for_two_clusters(built: Built) -> None:
    (service,) = of_kind(built("single-gpu"), "RayService")
    assert service["spec"]["upgradeStrategy"]["type"] == "None"
    (other,) = of_kind(built("multi-gpu"), "RayService")
    assert other["spec"]["upgradeStrategy"]["type"] == "NewCluster"


def test_many_cards_keep_two_workers_apart(built: Built) -> None:
    groups = cluster(built("multi-gpu"))["workerGroupSpecs"]
    assert sum(group["minReplicas"] for group in groups) >= 2
    for group in groups:
        (spread,) = group["template"]["spec"]["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"] == {"app.kubernetes.io/component": "worker"}
        assert group["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"


def test_many_cards_keep_one_for_speakers(built: Built) -> None:
    """Its label is what the graph's deployments prefer, or avoid."""
    manifests = built("multi-gpu")
    labels = [group.get("labels") for group in cluster(manifests)["workerGroupSpecs"]]
    assert labels == [None, {SPEAKER_LABEL: "true"}]
    (service,) = of_kind(manifests, "RayService")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    for name, wish in (("Diarization", "true"), ("FinalAsr", "!true")):
        options = deployment(config, name)["ray_actor_options"]
        assert options["label_selector"] == {SPEAKER_LABEL: wish}
        assert options["fallback_strategy"] == [{"label_selector": {}}]
    for name in NEVER_ALONE:
        assert deployment(config, name)["autoscaling_config"]["min_replicas"] >= 2


@pytest.mark.parametrize("overlay", ["single-gpu", "multi-gpu"])
def test_the_volume_is_written_by_its_job_alone(overlay: str, built: Built) -> None:
    manifests = built(overlay)
    writers = [
        (pod.owner["kind"], container["name"])
        for pod in pod_templates(manifests)
        for container in pod.all_containers
        for mount in container["volumeMounts"]
        if mount["mountPath"] == "/models" and not mount.get("readOnly")
    ]
    assert writers == [("Job", "models")]
    readers = [
        container["name"]
        for pod in pod_templates(manifests)
        for container in pod.all_containers
        for mount in container["volumeMounts"]
        if mount["mountPath"] == "/models" and mount.get("readOnly")
    ]
    assert set(readers) == {"models", "ray-worker"}


def test_nothing_leaves_an_air_gap(built: Built) -> None:
    manifests = built("air-gapped")
    assert not of_kind(manifests, "Job", "PersistentVolumeClaim")
    for pod in pod_templates(manifests):
        for container in pod.all_containers:
            assert re.fullmatch(r"registry\.internal/\w+@sha256:[0-9a-f]{64}", container["image"])
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("egress") or ():
            assert rule.get("to"), policy["metadata"]["name"]
            for peer in rule["to"]:
                assert "ipBlock" not in peer or peer["ipBlock"]["cidr"].endswith("/32")


@pytest.mark.parametrize("overlay", overlay_names())
def test_replicas_ask_no_hub(overlay: str, built: Built) -> None:
    manifests = built(overlay)
    assert config_map(manifests, "sotto-settings")["STT_OFFLINE"] == "true"
    for pod in pod_templates(manifests):
        if pod.role in ("head", "worker"):
            assert {"name": "HF_HUB_OFFLINE", "value": "1"} in pod.containers[0]["env"]


@pytest.mark.parametrize("overlay", overlay_names())
def test_head_and_workers_read_the_same_settings(overlay: str, built: Built) -> None:
    """The graph is built in a task of Ray's, wherever that runs."""
    pods = [pod for pod in pod_templates(built(overlay)) if pod.role in ("head", "worker")]
    assert len({str((pod.containers[0]["envFrom"], pod.containers[0]["env"])) for pod in pods}) == 1


def test_every_secret_is_in_the_docs() -> None:
    text = (CHECKOUT / "docs" / "kubernetes.md").read_text()
    for name, keys in SECRETS.items():
        assert f" {name} " in text, name
        if name != "sotto-tls":
            for key in keys:
                assert f"--from-literal={key}=" in text, (name, key)


@pytest.mark.parametrize("overlay", overlay_names())
def test_metrics_are_not_served_outside(overlay: str, built: Built) -> None:
    (route,) = of_kind(built(overlay), "HTTPRoute")
    (closed,) = (rule for rule in route["spec"]["rules"] if not rule.get("backendRefs"))
    assert closed["matches"] == [{"path": {"type": "Exact", "value": "/metrics"}}]
