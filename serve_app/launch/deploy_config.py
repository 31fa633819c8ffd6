"""A Serve config file as a dictionary, and the few things that a start on one machine changes in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

DeployConfig: TypeAlias = dict[str, Any]

PROFILE_FILES = {"cpu": "serve_config.cpu.yaml", "gpu": "serve_config.yaml"}


class DeployConfigError(ValueError):
    """The config file cannot be used; the message says which file and why."""


def read_deploy_config(path: Path) -> DeployConfig:
    """Read a multi-application Serve config (`serve run`'s format). Raises `DeployConfigError`."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeployConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise DeployConfigError(f"{path} is no valid YAML: {error}") from error
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, list) or not applications:
        raise DeployConfigError(f"{path} has no list of `applications`")
    for application in applications:
        if not isinstance(application, dict) or not application.get("import_path"):
            raise DeployConfigError(f"{path}: every application needs an `import_path`")
    return dict(document)


def deployment(config: DeployConfig, name: str) -> dict[str, Any]:
    """The entry of one deployment of the first application. Raises `KeyError`."""
    for entry in config["applications"][0].get("deployments") or []:
        if entry["name"] == name:
            found: dict[str, Any] = entry
            return found
    raise KeyError(name)


def http_address(config: DeployConfig) -> tuple[str | None, int | None]:
    """Host and port as the file gives them, None where it does not."""
    options = config.get("http_options") or {}
    return options.get("host"), options.get("port")


def for_one_machine(
    config: DeployConfig,
    *,
    host: str,
    port: int,
    settings: Mapping[str, Any] | None = None,
    env_file: Path | None = None,
) -> DeployConfig:
    """A copy that listens on `host:port`, runs its proxy on this machine only, and lays `settings` (name to
    value, as start flags) over those that the file gives to its first application's builder."""
    changed = copy.deepcopy(config)
    changed["proxy_location"] = "HeadOnly"
    changed["http_options"] = {**(changed.get("http_options") or {}), "host": host, "port": port}
    application = changed["applications"][0]
    args = dict(application.get("args") or {})
    if settings:
        args["settings"] = {**(args.get("settings") or {}), **settings}
    if env_file is not None:
        args["env_file"] = str(env_file.resolve())
    application["args"] = args
    return changed


def with_replicas(config: DeployConfig, deployment: str, num_replicas: int) -> DeployConfig:
    """A copy in which `deployment` of the first application has this many replicas, not scaled by load."""
    changed = copy.deepcopy(config)
    deployments = changed["applications"][0].setdefault("deployments", [])
    entry = next((item for item in deployments if item.get("name") == deployment), None)
    if entry is None:
        entry = {"name": deployment}
        deployments.append(entry)
    entry.pop("autoscaling_config", None)
    entry["num_replicas"] = num_replicas
    return changed


def without_deployment(config: DeployConfig, name: str) -> DeployConfig:
    """A copy without options for this deployment: Serve refuses those of one that the graph does not have."""
    changed = copy.deepcopy(config)
    application = changed["applications"][0]
    application["deployments"] = [
        entry for entry in application.get("deployments") or [] if entry.get("name") != name
    ]
    return changed


def app_settings(config: DeployConfig) -> dict[str, Any]:
    """The settings that the file gives to its first application's builder."""
    return dict((config["applications"][0].get("args") or {}).get("settings") or {})


def app_names(config: DeployConfig) -> tuple[str, ...]:
    return tuple(application.get("name") or "default" for application in config["applications"])
