"""Faults that schemas and the operator's rules must name."""

from __future__ import annotations

import pytest
from planting import (
    Built,
    Planted,
    cluster,
    drop,
    head,
    head_container,
    of,
    put,
    service,
    words_for,
    worker,
    worker_pod,
    workers,
)

SCHEMA_FAULTS = [
    Planted(
        "misspelt field of a RayService",
        put(service, "rayClusterDeletionDelaySecond", 1),
        "'rayClusterDeletionDelaySecond' was unexpected",
    ),
    Planted(
        "misspelt field of a pod",
        put(worker_pod, "terminationGraceSeconds", 1),
        "'terminationGraceSeconds' was unexpected",
    ),
    Planted("text for a number", put(workers, "maxReplicas", "8"), "'8' is not of type 'integer'"),
    Planted("a number for text", put(head, "rayStartParams", "num-cpus", 0), "0 is not of type 'string'"),
    Planted(
        "a mode that is none",
        put(cluster, "authOptions", "mode", "oidc"),
        "'oidc' is not one of ['disabled', 'token']",
    ),
    Planted(
        "a container without a name",
        drop(worker, "name"),
        "'name' is a required property",
    ),
    Planted(
        "a port out of range of types",
        put(of("Service"), "spec", "ports", 0, "port", "http"),
        "'http' is not of type 'integer'",
    ),
    Planted(
        "misspelt field of a NetworkPolicy",
        put(of("NetworkPolicy", "sotto-ray"), "spec", "ingres", []),
        "'ingres' was unexpected",
    ),
    Planted(
        "misspelt field of a gateway",
        put(of("Gateway"), "spec", "listeners", 0, "tsl", {}),
        "'tsl' was unexpected",
    ),
    Planted(
        "a duration that the Gateway API refuses",
        put(of("HTTPRoute"), "spec", "rules", 1, "timeouts", "request", "0"),
        "does not match",
    ),
    Planted(
        "misspelt relabelling",
        put(of("PodMonitor"), "spec", "podMetricsEndpoints", 0, "metricRelabeling", []),
        "'metricRelabeling' was unexpected",
    ),
    Planted("an apiVersion that is gone", put(of("PodDisruptionBudget"), "apiVersion", "policy/v1beta1"),
            "no schema for kind PodDisruptionBudget of apiVersion policy/v1beta1"),
    Planted("a misspelt kind", put(of("PodMonitor"), "kind", "PodMonitr"), "no schema for kind PodMonitr"),
]  # fmt: skip


OPERATOR_FAULTS = [
    Planted("a long name", put(of("RayService"), "metadata", "name", "s" * 48), "more than 47 characters"),
    Planted("a name with capitals", put(of("RayService"), "metadata", "name", "Sotto"), "not a DNS label"),
    Planted(
        "a time-out that is none",
        put(of("RayService"), "metadata", "annotations", "ray.io/initializing-timeout", "half an hour"),
        "is no duration",
    ),
    Planted("an upgrade that is none", put(service, "upgradeStrategy", "type", "Rolling"), "is none of"),
    Planted(
        "incremental upgrade without options",
        put(service, "upgradeStrategy", "type", "NewClusterWithIncrementalUpgrade"),
        "gatewayClassName is missing",
    ),
    Planted("a dead field", put(service, "serviceUnhealthySecondThreshold", 900), "has no effect"),
    Planted(
        "a negative delay", put(service, "rayClusterDeletionDelaySeconds", -1), "less than the minimum of 0"
    ),
    Planted("the head takes traffic", put(service, "excludeHeadPodFromServeSvc", False), "takes traffic"),
    Planted(
        "the head takes replicas",
        put(head, "rayStartParams", "num-cpus", "2"),
        "replicas may be placed there",
    ),
    Planted(
        "labels in rayStartParams",
        put(workers, "rayStartParams", "labels", "a=b"),
        "use the group's own labels",
    ),
    Planted(
        "resources twice",
        lambda each: workers(each).update(resources={"CPU": "4"}, rayStartParams={"num-cpus": "4"}),
        "resources both in rayStartParams and in the group",
    ),
    Planted("fewer than the least", put(workers, "replicas", 0), "not within minReplicas and maxReplicas"),
    Planted("suspended", put(workers, "suspend", True), "suspend does not go with autoscaling"),
    Planted(
        "idle time-out without autoscaler v2",
        put(cluster, "autoscalerOptions", "version", "v1"),
        "idleTimeoutSeconds needs autoscaler v2",
    ),
    Planted(
        "restarting pods under autoscaler v2",
        put(worker_pod, "restartPolicy", "Always"),
        "restartPolicy Always with autoscaler v2",
    ),
    Planted(
        "autoscaler v2 said twice",
        lambda each: head_container(each)["env"].append({"name": "RAY_enable_autoscaler_v2", "value": "1"}),
        "both autoscalerOptions.version and RAY_enable_autoscaler_v2",
    ),
    Planted(
        "Redis by hand",
        lambda each: head_container(each)["env"].append({"name": "RAY_REDIS_ADDRESS", "value": "r:6379"}),
        "RAY_REDIS_ADDRESS in the head's environment",
    ),
    Planted(
        "one storage for two clusters",
        put(cluster, "gcsFaultToleranceOptions", "externalStorageNamespace", "sotto"),
        "two clusters of an upgrade would share it",
    ),
    Planted(
        "fault tolerance twice",
        put(of("RayService"), "metadata", "annotations", "ray.io/ft-enabled", "true"),
        "together with gcsFaultToleranceOptions",
    ),
    Planted("tokens with an old Ray", put(cluster, "rayVersion", "2.51.0"), "needs rayVersion 2.52"),
    Planted(
        "Kubernetes' tokens",
        put(cluster, "authOptions", "enableK8sTokenAuth", True),
        "does not go with a RayService",
    ),
    Planted(
        "no port for Serve",
        put(worker, "ports", [{"name": "metrics", "containerPort": 8080}]),
        "no port is named serve",
    ),
    Planted(
        "two groups of one name",
        lambda each: cluster(each)["workerGroupSpecs"].append(workers(each)),
        "two worker groups are called gpu",
    ),
]


@pytest.mark.parametrize("fault", [*SCHEMA_FAULTS, *OPERATOR_FAULTS], ids=lambda fault: fault.name)
def test_a_planted_fault_is_named(fault: Planted, built: Built) -> None:
    found = words_for(fault, built)
    assert any(fault.message in words for words in found), found
