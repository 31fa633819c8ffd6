"""What to start: from flags, environment and config file to a Serve config and the size of Ray."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.launch.cluster import SOURCE_DIR, ClusterOptions
from serve_app.launch.deploy_config import (
    PROFILE_FILES,
    DeployConfig,
    app_settings,
    for_one_machine,
    http_address,
    read_deploy_config,
    with_replicas,
)
from serve_app.launch.edge_config import EdgeOptions, edge_options
from serve_app.settings import Settings, read_settings

INGRESS = "Ingress"


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """`settings` is what the graph will see, as far as this process can tell; `warnings` are for a person.
    With `edge`, the config's address is the one that speaks TLS."""

    config: DeployConfig
    config_path: Path
    settings: Settings
    cluster: ClusterOptions
    profile: str
    warnings: tuple[str, ...]
    edge: EdgeOptions | None = None


def plan_service(
    flags: Mapping[str, Any],
    *,
    config_path: Path | None = None,
    env_file: Path | None = None,
    cluster: ClusterOptions | None = None,
) -> ServicePlan:
    """Decide what to start. Precedence: flag, config file, environment, `.env` file, default.

    The graph reads the environment itself, so only the flags go into its arguments, and no secret that came
    by the environment does. Where nobody gave a `ticket_secret`, one is made here for all replicas of this
    start. Raises `SettingsError` and `DeployConfigError`.
    """
    first, _ = read_settings(flags=flags, env_file=env_file)
    profile = first.profile if first.profile != "auto" else detect_profile()
    path = config_path or SOURCE_DIR / PROFILE_FILES[profile]
    config = read_deploy_config(path)
    settings, warnings = read_settings(flags={**app_settings(config), **flags}, env_file=env_file)
    host, port = http_address(config)
    given = settings.model_fields_set
    arguments = {name: value for name, value in flags.items() if value is not None}
    if not settings.secret("ticket_secret"):
        arguments["ticket_secret"] = secrets.token_urlsafe(32)
    changed = for_one_machine(
        config,
        host=settings.host if "host" in given or host is None else host,
        port=settings.port if "port" in given or port is None else port,
        settings=arguments,
        env_file=env_file,
    )
    if settings.num_ingress_replicas is not None:
        changed = with_replicas(changed, INGRESS, settings.num_ingress_replicas)
    size = cluster or ClusterOptions()
    longest_s = max(size.max_session_s, round(settings.max_session_s))
    return ServicePlan(
        config=changed,
        config_path=path,
        settings=settings,
        cluster=ClusterOptions(
            address=size.address,
            num_cpus=size.num_cpus,
            num_gpus=size.num_gpus,
            object_store_bytes=size.object_store_bytes,
            max_session_s=longest_s,
        ),
        profile=profile,
        warnings=warnings,
        edge=edge_options(settings),
    )


def detect_profile() -> str:
    """ "gpu" where CTranslate2 can use one, "cpu" otherwise."""
    return "gpu" if num_cuda_devices() > 0 else "cpu"


def num_cuda_devices() -> int:
    """How many GPUs CTranslate2 can use; 0 without a driver."""
    import ctranslate2

    return int(ctranslate2.get_cuda_device_count())
