"""The door and the walls: TLS only, no limit on how long a stream may be, no buffering, no open port."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from k8s.check.manifests import Manifest, Problem, of_kind, pod_templates, problem

LEAST_IDLE_S = 3600
SERVE_PORT = 8000
UNIT_S = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}


def edge_problems(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    yield from _gateways(manifests)
    yield from _routes(manifests)
    yield from _envoy_policies(manifests)
    yield from _network(manifests)
    yield from _budgets(manifests)


def _gateways(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    for gateway in of_kind(manifests, "Gateway"):
        for listener in gateway["spec"].get("listeners") or ():
            tls = listener.get("tls") or {}
            if listener.get("protocol") != "HTTPS":
                yield problem(gateway, f"listener {listener.get('name')} answers without TLS")
            elif tls.get("mode", "Terminate") != "Terminate" or not tls.get("certificateRefs"):
                yield problem(gateway, f"listener {listener.get('name')} has no certificate")


def _routes(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    gateways = {gateway["metadata"]["name"]: gateway for gateway in of_kind(manifests, "Gateway")}
    services = {f"{service['metadata']['name']}-serve-svc" for service in of_kind(manifests, "RayService")}
    for route in of_kind(manifests, "HTTPRoute"):
        hosts: set[str] = set()
        for parent in route["spec"].get("parentRefs") or ():
            if parent["name"] not in gateways:
                yield problem(route, f"no Gateway is called {parent['name']}")
                continue
            listeners = gateways[parent["name"]]["spec"]["listeners"]
            hosts |= {listener.get("hostname", "") for listener in listeners}
        for host in route["spec"].get("hostnames") or ():
            if host not in hosts:
                yield problem(route, f"host {host} is no listener's")
        for rule in route["spec"].get("rules") or ():
            yield from _rule(route, rule, services)


def _rule(route: Manifest, rule: dict[str, Any], services: set[str]) -> Iterator[Problem]:
    backends = rule.get("backendRefs") or ()
    for backend in backends:
        if backend["name"] not in services:
            yield problem(route, f"backend {backend['name']} is not KubeRay's serve service")
        if backend.get("port") != SERVE_PORT:
            yield problem(route, f"backend {backend['name']} is asked on port {backend.get('port')}")
    timeouts = {"request": "", "backendRequest": "0s", **(rule.get("timeouts") or {})}
    for name, limit in timeouts.items():
        if backends and seconds(limit) != 0:
            yield problem(route, f"timeouts.{name} is not 0s: live sessions would be cut")


def _envoy_policies(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    for policy in of_kind(manifests, "ClientTrafficPolicy", "BackendTrafficPolicy"):
        spec = policy["spec"]
        for target in spec.get("targetRefs") or ():
            if (target["kind"], target["name"]) not in there:
                yield problem(policy, f"no {target['kind']} is called {target['name']}")
        http = (spec.get("timeout") or {}).get("http") or {}
        if (seconds(http.get("streamIdleTimeout", "")) or 0) < LEAST_IDLE_S:
            yield problem(policy, "streamIdleTimeout is under an hour: silent sessions would be cut")
        for field in ("requestBuffer", "compression", "compressor"):
            if field in spec:
                yield problem(policy, f"{field} holds back what a live session waits for")
        alpn = (spec.get("tls") or {}).get("alpnProtocols")
        if policy["kind"] == "ClientTrafficPolicy" and alpn != ["h2", "http/1.1"]:
            yield problem(policy, "alpnProtocols does not offer h2 and http/1.1")
        if policy["kind"] == "BackendTrafficPolicy":
            if seconds(http.get("requestTimeout", "")) != 0:
                yield problem(policy, "requestTimeout is not 0s: live sessions would be cut")
            if (spec.get("circuitBreaker") or {}).get("maxConnections", 1024) < 10000:
                yield problem(policy, "circuitBreaker.maxConnections is under 10000: each session is one")


def seconds(duration: str) -> float | None:
    """A Gateway API duration in seconds; None where it is none."""
    parts = re.findall(r"([0-9]+)(ms|h|m|s)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        return None
    return sum(int(number) * UNIT_S[unit] for number, unit in parts)


def _network(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    pods = list(pod_templates(manifests))
    policies = of_kind(manifests, "NetworkPolicy")
    closed = [policy for policy in policies if policy["spec"].get("podSelector") == {}]
    if not any({"Ingress", "Egress"} <= set(policy["spec"].get("policyTypes") or ()) for policy in closed):
        yield Problem("NetworkPolicy", "nothing closes the namespace by default")
    for pod in pods:
        if not any(
            policy not in closed and selects(policy["spec"]["podSelector"], pod.labels) for policy in policies
        ):
            yield problem(pod.owner, "no NetworkPolicy speaks of its pods", pod.path)
    for policy in policies:
        selector = policy["spec"].get("podSelector") or {}
        if selector and not any(selects(selector, pod.labels) for pod in pods):
            yield problem(policy, "it selects no pod")
        for rule in policy["spec"].get("ingress") or ():
            if not rule.get("from") or any("ipBlock" in peer for peer in rule["from"]):
                yield problem(policy, "a port is open to everybody")
        for rule in policy["spec"].get("egress") or ():
            if not rule.get("to") and not rule.get("ports"):
                yield problem(policy, "everything may go out")


def _budgets(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    on_cluster = list(_labels_on_cluster(manifests))
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        spec = budget["spec"]
        if "maxUnavailable" in spec or not isinstance(spec.get("minAvailable"), int):
            yield problem(budget, "only a whole number as minAvailable works on KubeRay's pods")
        if "ray.io/cluster" in ((spec.get("selector") or {}).get("matchLabels") or {}):
            yield problem(budget, "ray.io/cluster changes with every upgrade")
        if not any(selects(spec.get("selector") or {}, labels) for labels in on_cluster):
            yield problem(budget, "it selects no pod")


def _labels_on_cluster(manifests: Sequence[Manifest]) -> Iterator[dict[str, str]]:
    """Labels of pods with those that KubeRay adds."""
    for pod in pod_templates(manifests):
        yield {**pod.labels, **({"ray.io/node-type": pod.role} if pod.role != "other" else {})}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector fits a pod's labels (`matchLabels`, and `In` of `matchExpressions`)."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    for expression in selector.get("matchExpressions") or ():
        if expression["operator"] != "In" or labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
