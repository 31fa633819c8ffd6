"""What every container here must have: a pinned image, resources, probes, and no rights it can do without.

The rights are those of the Pod Security Standard "restricted", asked of each container by itself, since
KubeRay gives the containers that it adds the security context of the one beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from k8s.check.manifests import Manifest, PodTemplate, Problem, of_kind, pod_templates, problem

QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")
SECRET_NAME = re.compile(r"(PASSWORD|TOKEN|SECRET|API_KEY|CREDENTIAL)S?$")
PROXY_HEALTH = "/-/healthz"


def pod_problems(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    for pod in pod_templates(manifests):
        yield from _pod(pod)
        for container in pod.all_containers:
            for message in _container(container):
                yield problem(pod.owner, f"container {container.get('name')}: {message}", pod.path)
        for container in pod.containers:
            for message in _probes(pod, container):
                yield problem(pod.owner, f"container {container.get('name')}: {message}", pod.path)
    for service in of_kind(manifests, "RayService"):
        options = service["spec"]["rayClusterConfig"].get("autoscalerOptions") or {}
        for message in (*_rights(options), *_resources(options)):
            yield problem(service, f"container autoscaler: {message}", ("autoscalerOptions",))


def _pod(pod: PodTemplate) -> Iterator[Problem]:
    for field in HOST_FIELDS:
        if pod.spec.get(field):
            yield problem(pod.owner, f"{field} is on", pod.path)
    for volume in pod.spec.get("volumes") or ():
        if "hostPath" in volume:
            yield problem(pod.owner, f"volume {volume['name']} is a hostPath", pod.path)
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield problem(pod.owner, f"volume {volume['name']} has no sizeLimit", pod.path)
    mounted = {mount["name"] for each in pod.all_containers for mount in each.get("volumeMounts") or ()}
    claimed = (pod.owner.get("spec") or {}).get("volumeClaimTemplates") or ()
    there = {volume["name"] for volume in pod.spec.get("volumes") or ()}
    for name in sorted(mounted - there - {claim["metadata"]["name"] for claim in claimed}):
        yield problem(pod.owner, f"volume {name} is mounted and not there", pod.path)
    if pod.role != "head" and pod.spec.get("automountServiceAccountToken") is not False:
        yield problem(pod.owner, "automountServiceAccountToken is not false", pod.path)


def _container(container: dict[str, Any]) -> Iterator[str]:
    yield from _image(str(container.get("image", "")))
    yield from _rights(container)
    yield from _resources(container)
    for variable in container.get("env") or ():
        if SECRET_NAME.search(variable["name"]) and "value" in variable:
            yield f"{variable['name']} is written out; take it from a Secret"
    command = ((container.get("lifecycle") or {}).get("preStop") or {}).get("exec") or {}
    if "ray stop" in " ".join(command.get("command") or ()):
        yield "preStop runs `ray stop`, which kills what should drain"


def _image(image: str) -> Iterator[str]:
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        yield f"image {image} has no proper digest"
    elif not digest and tag in ("", "latest"):
        yield f"image {image} has no tag, or latest"


def _rights(container: dict[str, Any]) -> Iterator[str]:
    context = container.get("securityContext") or {}
    if context.get("privileged"):
        yield "it is privileged"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield "it may run as root"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = context.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "capabilities are not dropped"
    if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccompProfile"


def _resources(container: dict[str, Any]) -> Iterator[str]:
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, quantity in (*requests.items(), *limits.items()):
        if not QUANTITY.fullmatch(str(quantity)):
            yield f"{name} {quantity!r} is no quantity"
    for name in ("cpu", "memory"):
        if name not in requests:
            yield f"no request of {name}"
    if "memory" not in limits:
        yield "no limit of memory"
    if "nvidia.com/gpu" in requests and requests.get("nvidia.com/gpu") != limits.get("nvidia.com/gpu"):
        yield "cards are requested and not limited to as many"


def _probes(pod: PodTemplate, container: dict[str, Any]) -> Iterator[str]:
    if pod.owner.get("kind") == "Job":
        return
    for probe in ("livenessProbe", "readinessProbe"):
        if probe not in container:
            yield f"no {probe}"
    asked = (container.get("readinessProbe") or {}).get("httpGet") or {}
    if pod.role == "worker" and asked.get("path") != PROXY_HEALTH:
        yield f"readinessProbe does not ask Serve's proxy ({PROXY_HEALTH})"
    named = {port.get("name") for port in container.get("ports") or ()}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        port = ((container.get(probe) or {}).get("httpGet") or {}).get("port")
        if isinstance(port, str) and port not in named:
            yield f"{probe} asks port {port}, which is not there"
