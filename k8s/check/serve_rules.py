"""serveConfigV2 against Serve's own schema, the graph it names, and the pods it is to run in."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from k8s.check.manifests import Manifest, Problem, of_kind, problem
from serve_app.settings import Settings
from serve_app.settings.load import env_name

ROOT = Path(__file__).parents[2]
"""Where `graphs` and `deployments` are."""

DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
HARD_STOP = "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"


def serve_problems(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    for service in of_kind(manifests, "RayService"):
        text = service["spec"].get("serveConfigV2")
        if not text:
            yield problem(service, "no serveConfigV2; is a graph component missing?")
            continue
        config = yaml.safe_load(text)
        faults = list(config_faults(config))
        yield from (problem(service, message, ("serveConfigV2",)) for message in faults)
        if not faults:
            for message in (*_cluster_faults(config), *_room(service, config)):
                yield problem(service, message, ("serveConfigV2",))
            yield from _draining(service, config, _environment(manifests))


def config_faults(config: dict[str, Any]) -> Iterator[str]:
    """What Serve refuses, and what it would ignore: keys it does not know."""
    from pydantic import ValidationError
    from ray.serve.schema import ServeDeploySchema

    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        for each in error.errors():
            yield f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}".lstrip(": ")
    except (ValueError, ImportError, AttributeError) as error:  # Serve imports the policies to look at them
        yield str(error)
    yield from _unknown_keys(config)
    for application in config.get("applications") or ():
        if not defines(str(application.get("import_path", ""))):
            yield f"import_path {application.get('import_path')} names nothing"
    for deployment in _deployments(config):
        if deployment.get("name") not in deployment_names():
            yield f"no deployment is called {deployment.get('name')}"
        policy = ((deployment.get("autoscaling_config") or {}).get("policy") or {}).get("policy_function")
        if policy is not None and not defines(policy):
            yield f"policy_function {policy} names nothing"


def _deployments(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for application in config.get("applications") or ():
        yield from application.get("deployments") or ()


def _unknown_keys(config: dict[str, Any]) -> Iterator[str]:
    from ray.serve import schema
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    def unknown(place: str, value: Any, model: Any) -> Iterator[str]:
        if isinstance(value, dict):
            known = {name for key, field in model.model_fields.items() for name in (key, field.alias) if name}
            yield from (f"{place}: Serve knows no {key}" for key in value if key not in known)

    yield from unknown("top", config, schema.ServeDeploySchema)
    yield from unknown("http_options", config.get("http_options"), schema.HTTPOptionsSchema)
    for application in config.get("applications") or ():
        yield from unknown(str(application.get("name")), application, schema.ServeApplicationSchema)
    for deployment in _deployments(config):
        name = str(deployment.get("name"))
        scaling = deployment.get("autoscaling_config") or {}
        yield from unknown(name, deployment, schema.DeploymentSchema)
        options = deployment.get("ray_actor_options")
        yield from unknown(f"{name}.ray_actor_options", options, schema.RayActorOptionsSchema)
        yield from unknown(f"{name}.autoscaling_config", scaling, AutoscalingConfig)
        yield from unknown(f"{name}.policy", scaling.get("policy"), AutoscalingPolicy)


@cache
def deployment_names() -> frozenset[str]:
    """The classes in `deployments/`: a deployment is called like its class."""
    return frozenset(
        node.name
        for path in (ROOT / "deployments").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )


def defines(path: str) -> bool:
    """Whether `package.module:name` is defined at the top of a module here; nothing is imported for it."""
    module, _, name = path.replace(":", ".").rpartition(".")
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not module or not file.is_file():
        return False
    return name in {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }


def _cluster_faults(config: dict[str, Any]) -> Iterator[str]:
    http = config.get("http_options") or {}
    if http.get("host") != "0.0.0.0":
        yield "http_options.host is not 0.0.0.0: no other pod reaches it"
    if config.get("proxy_location") != "EveryNode":
        yield "proxy_location is not EveryNode: workers would have no proxy"
    if http.get("request_timeout_s") is not None:
        yield "request_timeout_s is set: live sessions would be cut"
    for application in config["applications"]:
        if application.get("runtime_env"):
            yield "runtime_env: the code and its settings come with the image and the ConfigMaps"


def _room(service: Manifest, config: dict[str, Any]) -> Iterator[str]:
    """Whether the fewest replicas find room on the most workers."""
    needed = {"num_cpus": 0.0, "num_gpus": 0.0}
    for deployment in _deployments(config):
        scaling = deployment.get("autoscaling_config") or {}
        replicas = deployment.get("num_replicas") or scaling.get("min_replicas", 1)
        for name in needed:
            share = (deployment.get("ray_actor_options") or {}).get(name, 0)
            needed[name] += share * (replicas if isinstance(replicas, int) else 1)
    there = {"num_cpus": 0.0, "num_gpus": 0.0}
    for group in service["spec"]["rayClusterConfig"].get("workerGroupSpecs") or ():
        resources = group["template"]["spec"]["containers"][0].get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        there["num_cpus"] += group["maxReplicas"] * cores(limits.get("cpu") or requests.get("cpu") or 0)
        there["num_gpus"] += group["maxReplicas"] * float(limits.get("nvidia.com/gpu", 0))
    for name, amount in needed.items():
        if amount > there[name] + 1e-9:
            yield f"replicas need {amount:g} {name}, and the workers have {there[name]:g} at most"


def cores(quantity: str | int | float) -> float:
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _environment(manifests: Sequence[Manifest]) -> dict[str, str]:
    """All that ConfigMaps put into the environment."""
    data: dict[str, str] = {}
    for each in of_kind(manifests, "ConfigMap"):
        data.update(each.get("data") or {})
    return data


def _draining(service: Manifest, config: dict[str, Any], environment: dict[str, str]) -> Iterator[Problem]:
    """replicas' own time <= Ray's drain < the pod's grace; HAProxy outlives the longest session."""
    drain_s = float(environment.get(DRAIN, 30))
    for deployment in _deployments(config):
        if deployment.get("graceful_shutdown_timeout_s", 20) > drain_s:
            yield problem(service, f"{deployment['name']}: graceful_shutdown_timeout_s is over {DRAIN}")
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *(cluster.get("workerGroupSpecs") or ())):
        name = group.get("groupName", "head")
        if group["template"]["spec"].get("terminationGracePeriodSeconds", 30) <= drain_s:
            yield problem(service, f"{name}: terminationGracePeriodSeconds is not over {DRAIN} ({drain_s:g})")
    if service["spec"].get("rayClusterDeletionDelaySeconds", 60) < drain_s:
        yield problem(service, f"rayClusterDeletionDelaySeconds is under {DRAIN}")
    longest_s = float(environment.get(env_name("max_session_s"), Settings().max_session_s))
    if float(environment.get(HARD_STOP, 120)) <= longest_s:
        yield problem(service, f"{HARD_STOP} is not over the longest session ({longest_s:g} s)")
