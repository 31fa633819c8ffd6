"""What KubeRay's operator (1.7) refuses or silently ignores in a RayService, beyond its schema.

The operator says these only when it sees the object, in an event; here they are said before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from k8s.check.manifests import Manifest, Problem, of_kind, problem

MAX_NAME_CHARS = 47
"""A RayService's name gets suffixes, and a Service's name may have 63 characters."""

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
GO_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+|[1-9][0-9]*")
UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
DEAD_FIELDS = ("serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold")
INITIALIZING_TIMEOUT = "ray.io/initializing-timeout"
LEAST_RAY_FOR_TOKENS = (2, 52)
LEAST_RAY_FOR_PRIORITY = (2, 56)

Rule = Callable[[Manifest], Iterator[Problem]]


def operator_problems(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    for service in of_kind(manifests, "RayService"):
        for rule in RULES:
            yield from rule(service)


def _metadata(service: Manifest) -> Iterator[Problem]:
    name = str(service["metadata"].get("name", ""))
    if len(name) > MAX_NAME_CHARS:
        yield problem(service, f"name has more than {MAX_NAME_CHARS} characters")
    if not DNS_LABEL.fullmatch(name):
        yield problem(service, f"name {name!r} is not a DNS label")
    annotations = service["metadata"].get("annotations") or {}
    timeout = annotations.get(INITIALIZING_TIMEOUT)
    if timeout is not None and not GO_DURATION.fullmatch(str(timeout)):
        yield problem(service, f"annotation {INITIALIZING_TIMEOUT} is no duration: {timeout!r}")
    for annotation in ("ray.io/ft-enabled", "ray.io/external-storage-namespace"):
        if annotation in annotations and _cluster(service).get("gcsFaultToleranceOptions"):
            yield problem(service, f"annotation {annotation} together with gcsFaultToleranceOptions")


def _service_spec(service: Manifest) -> Iterator[Problem]:
    spec = service["spec"]
    for field in DEAD_FIELDS:
        if field in spec:
            yield problem(service, f"{field} has no effect")
    strategy = spec.get("upgradeStrategy") or {}
    kind = strategy.get("type", "NewCluster")
    if kind not in UPGRADES:
        yield problem(service, f"upgradeStrategy.type {kind!r} is none of {', '.join(UPGRADES)}")
    if kind == "NewClusterWithIncrementalUpgrade":
        yield from _incremental(service, strategy.get("clusterUpgradeOptions") or {})
    if ((_head(service).get("headService") or {}).get("metadata") or {}).get("name"):
        yield problem(service, "headGroupSpec.headService.metadata.name must not be set")


def _incremental(service: Manifest, options: dict[str, Any]) -> Iterator[Problem]:
    if not _cluster(service).get("enableInTreeAutoscaling"):
        yield problem(service, "an incremental upgrade needs enableInTreeAutoscaling")
    for name in ("stepSizePercent", "maxSurgePercent"):
        if not 0 <= options.get(name, 100 if name == "maxSurgePercent" else -1) <= 100:
            yield problem(service, f"clusterUpgradeOptions.{name} must be between 0 and 100")
    if options.get("intervalSeconds", 0) <= 0:
        yield problem(service, "clusterUpgradeOptions.intervalSeconds must be over 0")
    if not options.get("gatewayClassName"):
        yield problem(service, "clusterUpgradeOptions.gatewayClassName is missing")


def _groups(service: Manifest) -> Iterator[Problem]:
    names = [group.get("groupName") for group in _workers(service)]
    for name in sorted({name for name in names if names.count(name) > 1}, key=str):
        yield problem(service, f"two worker groups are called {name}")
    for name, group in _all_groups(service):
        parameters = group.get("rayStartParams") or {}
        if "labels" in parameters:
            yield problem(service, f"{name}: rayStartParams.labels; use the group's own labels")
        counted = {"num-cpus", "num-gpus", "memory", "resources"} & set(parameters)
        if counted and group.get("resources"):
            yield problem(service, f"{name}: resources both in rayStartParams and in the group")
        if not ((group.get("template") or {}).get("spec") or {}).get("containers"):
            yield problem(service, f"{name}: at least one container is needed")


def _scaling(service: Manifest) -> Iterator[Problem]:
    cluster = _cluster(service)
    is_on = bool(cluster.get("enableInTreeAutoscaling"))
    version = (cluster.get("autoscalerOptions") or {}).get("version")
    for group in _workers(service):
        name = group.get("groupName")
        low, high = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
        if not low <= group.get("replicas", low) <= high:
            yield problem(service, f"{name}: replicas is not within minReplicas and maxReplicas")
        if group.get("suspend"):
            yield problem(service, f"{name}: suspend does not go with autoscaling")
        if "idleTimeoutSeconds" in group and not (is_on and version == "v2"):
            yield problem(service, f"{name}: idleTimeoutSeconds needs autoscaler v2")
        if "priority" in group and _ray_version(cluster) < LEAST_RAY_FOR_PRIORITY:
            yield problem(service, f"{name}: priority needs Ray 2.56")
    if version == "v2":
        for name, group in _all_groups(service):
            policy = group.get("template", {}).get("spec", {}).get("restartPolicy", "Never")
            if policy != "Never":
                yield problem(service, f"{name}: restartPolicy {policy} with autoscaler v2")
        if "RAY_enable_autoscaler_v2" in _head_environment(service):
            yield problem(service, "both autoscalerOptions.version and RAY_enable_autoscaler_v2 are set")


def _fault_tolerance(service: Manifest) -> Iterator[Problem]:
    options = _cluster(service).get("gcsFaultToleranceOptions")
    parameters, environment = _head(service).get("rayStartParams") or {}, _head_environment(service)
    if "redis-username" in parameters or "REDIS_USERNAME" in environment:
        yield problem(service, "the name of the Redis user belongs to gcsFaultToleranceOptions.redisUsername")
    if not options:
        if "RAY_REDIS_ADDRESS" in environment:
            yield problem(service, "RAY_REDIS_ADDRESS without gcsFaultToleranceOptions")
        return
    if "redis-password" in parameters:
        yield problem(service, "rayStartParams.redis-password; use gcsFaultToleranceOptions.redisPassword")
    for name in ("REDIS_PASSWORD", "RAY_REDIS_ADDRESS"):
        if name in environment:
            yield problem(service, f"{name} in the head's environment; use gcsFaultToleranceOptions")
    if options.get("externalStorageNamespace"):
        yield problem(service, "externalStorageNamespace is set: two clusters of an upgrade would share it")
    if options.get("backend", "redis") == "redis" and not options.get("redisAddress"):
        yield problem(service, "gcsFaultToleranceOptions without redisAddress")


def _authentication(service: Manifest) -> Iterator[Problem]:
    cluster = _cluster(service)
    options = cluster.get("authOptions") or {}
    if options.get("enableK8sTokenAuth"):
        yield problem(service, "enableK8sTokenAuth does not go with a RayService")
    if options.get("mode") == "token" and _ray_version(cluster) < LEAST_RAY_FOR_TOKENS:
        yield problem(service, "authOptions.mode token needs rayVersion 2.52 or newer")


def _ports(service: Manifest) -> Iterator[Problem]:
    for name, group in _all_groups(service):
        containers = ((group.get("template") or {}).get("spec") or {}).get("containers") or [{}]
        ports = [port.get("name", "") for port in containers[0].get("ports") or ()]
        if ports and not any(port == "serve" or port.startswith("serve-") for port in ports):
            yield problem(service, f"{name}: no port is named serve, so KubeRay makes no serve service")


def _head_without_traffic(service: Manifest) -> Iterator[Problem]:
    if not service["spec"].get("excludeHeadPodFromServeSvc"):
        yield problem(service, "excludeHeadPodFromServeSvc is off: the head takes traffic")
    if (_head(service).get("rayStartParams") or {}).get("num-cpus") != "0":
        yield problem(service, 'head: rayStartParams.num-cpus is not "0": replicas may be placed there')


RULES: tuple[Rule, ...] = (
    _metadata,
    _service_spec,
    _groups,
    _scaling,
    _fault_tolerance,
    _authentication,
    _ports,
    _head_without_traffic,
)


def _cluster(service: Manifest) -> dict[str, Any]:
    return service["spec"].get("rayClusterConfig") or {}


def _head(service: Manifest) -> dict[str, Any]:
    return _cluster(service).get("headGroupSpec") or {}


def _workers(service: Manifest) -> list[dict[str, Any]]:
    return _cluster(service).get("workerGroupSpecs") or []


def _all_groups(service: Manifest) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "head", _head(service)
    for group in _workers(service):
        yield str(group.get("groupName")), group


def _head_environment(service: Manifest) -> set[str]:
    containers = ((_head(service).get("template") or {}).get("spec") or {}).get("containers") or [{}]
    return {variable["name"] for variable in containers[0].get("env") or ()}


def _ray_version(cluster: dict[str, Any]) -> tuple[int, ...]:
    numbers = re.findall(r"\d+", str(cluster.get("rayVersion", "")))
    return tuple(int(number) for number in numbers[:2])
