"""Faults in serveConfigV2 and in pods that the check must name."""

from __future__ import annotations

import pytest
from planting import (
    Built,
    Planted,
    cluster,
    drop,
    head_container,
    of,
    put,
    served,
    served_deployment,
    service,
    words_for,
    worker,
    worker_pod,
)

SERVE_FAULTS = [
    Planted(
        "a key that Serve ignores",
        served_deployment("FinalAsr", "max_ongoing_request", 3),
        "FinalAsr: Serve knows no max_ongoing_request",
    ),
    Planted(
        "a key of autoscaling that Serve ignores",
        served_deployment("FinalAsr", "autoscaling_config", {"min_replica": 1}),
        "FinalAsr.autoscaling_config: Serve knows no min_replica",
    ),
    Planted(
        "replicas and autoscaling", served_deployment("FinalAsr", "num_replicas", 2), "autoscaling_config"
    ),
    Planted(
        "a value that Serve refuses",
        served_deployment("FinalAsr", "max_ongoing_requests", -1),
        "greater than",
    ),
    Planted(
        "a deployment that is none",
        served(lambda config: config["applications"][0]["deployments"].append({"name": "FinalASR"})),
        "no deployment is called FinalASR",
    ),
    Planted(
        "a policy that is none",
        served_deployment(
            "FinalAsr",
            "autoscaling_config",
            {
                "min_replicas": 1,
                "max_replicas": 2,
                "policy": {"policy_function": "deployments.nowhere:policy"},
            },
        ),
        "policy_function deployments.nowhere:policy names nothing",
    ),
    Planted(
        "a graph that is none",
        served(lambda config: config["applications"][0].update(import_path="graphs.full:make")),
        "import_path graphs.full:make names nothing",
    ),
    Planted(
        "loopback", served(lambda config: config["http_options"].update(host="127.0.0.1")), "no other pod"
    ),
    Planted(
        "proxies on the head alone",
        served(lambda config: config.update(proxy_location="HeadOnly")),
        "workers would have no proxy",
    ),
    Planted(
        "a limit on requests",
        served(lambda config: config["http_options"].update(request_timeout_s=60)),
        "live sessions would be cut",
    ),
    Planted("no graph at all", drop(service, "serveConfigV2"), "no serveConfigV2"),
    Planted(
        "GPUs asked of workers without any",
        served_deployment("Recogniser", "ray_actor_options", {"num_cpus": 1, "num_gpus": 1}),
        "replicas need 1 num_gpus",
        "cpu",
    ),
    Planted(
        "replicas that drain longer than their node",
        served_deployment("Ingress", "graceful_shutdown_timeout_s", 3600),
        "Ingress: graceful_shutdown_timeout_s is over",
    ),
    Planted(
        "pods killed while they drain",
        put(worker_pod, "terminationGracePeriodSeconds", 600),
        "terminationGracePeriodSeconds is not over",
    ),
    Planted(
        "the old cluster goes at once",
        put(service, "rayClusterDeletionDelaySeconds", 60),
        "rayClusterDeletionDelaySeconds is under",
    ),
    Planted(
        "HAProxy stops before the longest session ends",
        put(of("ConfigMap", "sotto-ray"), "data", "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", "120"),
        "is not over the longest session",
    ),
]


POD_FAULTS = [
    Planted("no tag", put(worker, "image", "sotto"), "has no tag, or latest"),
    Planted("latest", put(worker, "image", "registry:5000/sotto:latest"), "has no tag, or latest"),
    Planted("half a digest", put(worker, "image", "sotto@sha256:abc"), "no proper digest"),
    Planted("privileged", put(worker, "securityContext", "privileged", True), "it is privileged"),
    Planted("root", put(worker, "securityContext", "runAsNonRoot", False), "it may run as root"),
    Planted(
        "an init container as root",
        lambda each: worker_pod(each)["initContainers"][0].pop("securityContext"),
        "container models: it may run as root",
    ),
    Planted("capabilities", drop(worker, "securityContext", "capabilities"), "capabilities are not dropped"),
    Planted(
        "the autoscaler's rights",
        drop(cluster, "autoscalerOptions", "securityContext"),
        "container autoscaler: it may run as root",
    ),
    Planted("the host's network", put(worker_pod, "hostNetwork", True), "hostNetwork is on"),
    Planted(
        "the host's disk",
        lambda each: worker_pod(each)["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        "is a hostPath",
    ),
    Planted("no limit of memory", drop(worker, "resources", "limits", "memory"), "no limit of memory"),
    Planted("no request", drop(worker, "resources", "requests", "cpu"), "no request of cpu"),
    Planted(
        "a quantity that is none", put(worker, "resources", "limits", "memory", "24GB"), "is no quantity"
    ),
    Planted("no liveness", drop(worker, "livenessProbe"), "no livenessProbe"),
    Planted(
        "ready before its proxy is",
        put(worker, "readinessProbe", "httpGet", "path", "/health/live"),
        "does not ask Serve's proxy",
    ),
    Planted(
        "a probe of no port",
        put(head_container, "readinessProbe", "httpGet", "port", "dash"),
        "asks port dash, which is not there",
    ),
    Planted(
        "a stop that kills what should drain",
        put(worker, "lifecycle", {"preStop": {"exec": {"command": ["/bin/sh", "-c", "ray stop"]}}}),
        "preStop runs `ray stop`",
    ),
    Planted(
        "a password written out",
        lambda each: worker(each)["env"].append({"name": "REDIS_PASSWORD", "value": "hunter2"}),
        "REDIS_PASSWORD is written out",
    ),
    Planted(
        "a mount of nothing",
        lambda each: worker(each)["volumeMounts"].append({"name": "gone", "mountPath": "/gone"}),
        "volume gone is mounted and not there",
    ),
    Planted(
        "an account that it does not need",
        drop(worker_pod, "automountServiceAccountToken"),
        "automountServiceAccountToken is not false",
    ),
]


@pytest.mark.parametrize("fault", [*SERVE_FAULTS, *POD_FAULTS], ids=lambda fault: fault.name)
def test_a_planted_fault_is_named(fault: Planted, built: Built) -> None:
    found = words_for(fault, built)
    assert any(fault.message in words for words in found), found
