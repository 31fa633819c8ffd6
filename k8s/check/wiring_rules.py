"""What names what: namespaces, ConfigMaps, volumes and Secrets, and whether each setting is one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from k8s.check.manifests import Manifest, Problem, nodes, of_kind, pod_templates, problem
from serve_app.settings import Settings, SettingsError
from serve_app.settings.define import ENV_PREFIX
from serve_app.settings.load import ENV_FILE_VARIABLE, env_name, read_settings

# Ray says only in its own files what it calls its variables and its metrics.


def ray_source(*names: str) -> str:
    """The text of these files of the package; those that this Ray does not have are left out."""
    return "".join(path.read_text() for path in _there(names))


def ray_binary(name: str) -> bytes:
    """One file of the package as it is, empty where this Ray does not have it."""
    return b"".join(path.read_bytes() for path in _there((name,)))


def _there(names: tuple[str, ...]) -> list[Path]:
    spec = find_spec("ray")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    return [folder / name for name in names if (folder / name).exists()]


NAMESPACE = "sotto"
PART_OF = "app.kubernetes.io/part-of"
CLUSTER_WIDE = {"Namespace", "GatewayClass"}

SECRETS: dict[str, frozenset[str]] = {
    "sotto-keys": frozenset({"ticket-secret", "api-key", "hf-token"}),
    "sotto-redis": frozenset({"password"}),
    "sotto-ray-token": frozenset({"auth_token"}),
    "sotto-tls": frozenset({"tls.crt", "tls.key"}),
}
"""The Secrets that docs/kubernetes.md tells one to make, with their keys; no value of theirs is here."""

SETTING_NAMES = frozenset(map(env_name, Settings.model_fields))
RAY_SOURCES = ("serve/_private/constants.py", "_private/ray_constants.py", "_common/usage/usage_constants.py")
RAY_CORE = "core/src/ray/gcs/gcs_server"


def wiring_problems(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    for manifest in manifests:
        metadata = manifest.get("metadata") or {}
        if manifest["kind"] not in CLUSTER_WIDE and metadata.get("namespace") != NAMESPACE:
            yield problem(manifest, f"namespace is {metadata.get('namespace')}, not {NAMESPACE}")
        if PART_OF not in (metadata.get("labels") or {}):
            yield problem(manifest, f"no label {PART_OF}")
        if manifest["kind"] == "Secret":
            yield problem(manifest, "a Secret is written out; make it in the cluster")
        for node in nodes(manifest.get("spec")):
            reference = node.get("secretKeyRef")
            if reference and reference.get("key") not in SECRETS.get(reference["name"], frozenset()):
                yield problem(manifest, f"Secret {reference['name']} has no key {reference.get('key')}")
    yield from _references(manifests)
    yield from _named_secrets(manifests)
    yield from _settings(manifests)
    yield from _volumes(manifests)


def _references(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    maps = {each["metadata"]["name"] for each in of_kind(manifests, "ConfigMap")}
    claims = {each["metadata"]["name"] for each in of_kind(manifests, "PersistentVolumeClaim")}
    for pod in pod_templates(manifests):
        for container in pod.all_containers:
            for source in container.get("envFrom") or ():
                name = (source.get("configMapRef") or {}).get("name")
                if name not in maps:
                    yield problem(pod.owner, f"no ConfigMap is called {name}", pod.path)
        for volume in pod.spec.get("volumes") or ():
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if name is not None and name not in claims:
                yield problem(pod.owner, f"no PersistentVolumeClaim is called {name}", pod.path)


def _named_secrets(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    for service in of_kind(manifests, "RayService"):
        options = service["spec"]["rayClusterConfig"].get("authOptions") or {}
        if options.get("mode") != "token":
            yield problem(service, "authOptions.mode is not token: anyone in the cluster may run code on Ray")
        elif options.get("secretName") not in SECRETS:
            yield problem(service, f"authOptions names no known Secret: {options.get('secretName')}")
    for gateway in of_kind(manifests, "Gateway"):
        for listener in gateway["spec"].get("listeners") or ():
            for reference in (listener.get("tls") or {}).get("certificateRefs") or ():
                if reference["name"] not in SECRETS:
                    yield problem(gateway, f"certificateRefs names no known Secret: {reference['name']}")


def _settings(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    for data in of_kind(manifests, "ConfigMap"):
        values = {name: str(value) for name, value in (data.get("data") or {}).items()}
        yield from (problem(data, message) for message in _setting_faults(values))
        for name in values:
            if name.startswith("RAY_") and name not in ray_variables():
                yield problem(data, f"Ray knows no variable {name}")
    for pod in pod_templates(manifests):
        for container in pod.all_containers:
            given = {each["name"]: str(each.get("value", "given")) for each in container.get("env") or ()}
            for message in _setting_faults(given):
                yield problem(pod.owner, f"container {container['name']}: {message}", pod.path)


def _setting_faults(values: dict[str, str]) -> Iterator[str]:
    """What the service itself would say to those of these variables that are meant for it."""
    for name in sorted(set(values) - SETTING_NAMES - {ENV_FILE_VARIABLE}):
        if name.startswith(ENV_PREFIX):
            yield f"{name} is no setting"
    try:
        read_settings(environ={name: value for name, value in values.items() if name in SETTING_NAMES})
    except SettingsError as error:
        yield str(error)


@cache
def ray_variables() -> frozenset[str]:
    """Every variable that the installed Ray reads by name: in Python, and of its own core's settings (lower
    case), those that stand in the GCS server."""
    of_core = re.findall(rb"RAY_[a-z][a-z0-9_]+", ray_binary(RAY_CORE))
    return frozenset(re.findall(r"RAY_[A-Z0-9_]+", ray_source(*RAY_SOURCES))) | {
        name.decode() for name in of_core
    }


def _volumes(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    """A volume that many workers mount must be one that many nodes can mount."""
    for service in of_kind(manifests, "RayService"):
        for group in service["spec"]["rayClusterConfig"].get("workerGroupSpecs") or ():
            names = {
                (volume.get("persistentVolumeClaim") or {}).get("claimName")
                for volume in group["template"]["spec"].get("volumes") or ()
            }
            for claim in of_kind(manifests, "PersistentVolumeClaim"):
                modes = claim["spec"]["accessModes"]
                is_shared = "ReadWriteMany" in modes or "ReadOnlyMany" in modes
                if claim["metadata"]["name"] in names and group["maxReplicas"] > 1 and not is_shared:
                    yield problem(claim, f"{group['maxReplicas']} workers cannot share {', '.join(modes)}")
