"""serve_config.yaml made small enough for hosts that share one machine's few cores; its shape stays."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from typing import Any

from serve_app.launch.cluster import SOURCE_DIR
from serve_app.launch.deploy_config import DeployConfig, read_deploy_config
from serve_app.launch.many_cards import NEVER_ALONE

PRODUCTION = SOURCE_DIR / "serve_config.yaml"
NUM_CPUS = 0.1
SMALL_SETTINGS: dict[str, Any] = {
    "model": "tiny.en",
    "language": "en",
    "num_workers": 1,
    "offline": True,
    "idle_timeout_s": 300,
}


def small_config(*, autoscaling: Mapping[str, Mapping[str, Any]] | None = None) -> DeployConfig:
    """The production file with tiny models, little CPU a replica, and proxies that other hosts reach.

    `autoscaling` is laid over each deployment's own, by its name.
    """
    config = copy.deepcopy(read_deploy_config(PRODUCTION))
    config["proxy_location"] = "EveryNode"
    config["http_options"] = {**config["http_options"], "host": "0.0.0.0"}
    application = config["applications"][0]
    args = dict(application.get("args") or {})
    # Every ingress must take the tickets of the others: on a cluster the key comes from a secret.
    key = {"ticket_secret": secrets.token_urlsafe(32)}
    args["settings"] = {**(args.get("settings") or {}), **SMALL_SETTINGS, **key}
    application["args"] = args
    for entry in application["deployments"]:
        entry["ray_actor_options"] = {**(entry.get("ray_actor_options") or {}), "num_cpus": NUM_CPUS}
        if "autoscaling_config" in entry:
            changes = (autoscaling or {}).get(entry["name"], {})
            entry["autoscaling_config"] = {**entry["autoscaling_config"], **changes}
    return config


def fixed_replicas(number: int, *names: str) -> dict[str, dict[str, int]]:
    """For `small_config`: so many of each that is scaled, whatever the load."""
    bounds = {"min_replicas": number, "max_replicas": number}
    return dict.fromkeys(names or NEVER_ALONE, bounds)
