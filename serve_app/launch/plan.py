"""What to start: from flags, environment and config file to a Serve config and the size of Ray."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve_app.asr.engines.choice import runs_whisper
from serve_app.launch.cluster import SOURCE_DIR, ClusterOptions
from serve_app.launch.deploy_config import (
    PROFILE_FILES,
    DeployConfig,
    app_settings,
    for_one_machine,
    http_address,
    read_deploy_config,
    with_replicas,
    without_deployment,
)
from serve_app.launch.edge_config import EdgeOptions, edge_options
from serve_app.launch.gpu_plan import (
    TOO_SMALL,
    UNREADABLE,
    VOICE,
    machine_cards,
    planned_settings,
    size_settings,
    with_slots,
)
from serve_app.launch.serving import START_TIMEOUT_S
from serve_app.settings import Settings, SettingsError, read_settings

INGRESS = "Ingress"
LOAD_MARGIN_S = 120.0
"""For what is not loading: processes that start, and imports."""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """`settings` is what the graph will see, as far as this process can tell; `warnings` are for a person,
    and so are `reasons`: how the machine's GPUs are used. With `edge`, the config's address is the one that
    speaks TLS."""

    config: DeployConfig
    config_path: Path
    settings: Settings
    cluster: ClusterOptions
    profile: str
    warnings: tuple[str, ...]
    edge: EdgeOptions | None = None
    reasons: tuple[str, ...] = ()

    @property
    def start_timeout_s(self) -> float:
        """How long a start may take: models that load until their own limit fail by name before it."""
        return max(START_TIMEOUT_S, self.settings.model_load_timeout_s + LOAD_MARGIN_S)


def plan_service(
    flags: Mapping[str, Any],
    *,
    config_path: Path | None = None,
    env_file: Path | None = None,
    cluster: ClusterOptions | None = None,
) -> ServicePlan:
    """Decide what to start. Precedence: flag, config file, environment, `.env` file, default.

    The graph reads the environment itself, so only the flags go into its arguments, and no secret that came
    by the environment does. Without a `ticket_secret`, one is made here for all replicas of this
    start. On GPUs of this machine, with our own config file, models and replicas are sized by their memory.
    Raises `SettingsError`, also for an address that others reach where no key is asked for, and
    `DeployConfigError`.
    """
    first, _ = read_settings(flags=flags, env_file=env_file)
    profile = first.profile if first.profile != "auto" else detect_profile()
    path = config_path or SOURCE_DIR / PROFILE_FILES[profile]
    config = read_deploy_config(path)
    settings, warnings = read_settings(flags={**app_settings(config), **flags}, env_file=env_file)
    reasons: tuple[str, ...] = ()
    if profile == "gpu" and config_path is None and _on_this_machine(settings, cluster):
        cards = machine_cards(cluster.num_gpus if cluster else None)
        sizing = size_settings(settings, cards)
        if sizing is None and cards and first.profile == "auto":
            on_cpu = plan_service({**flags, "profile": "cpu"}, env_file=env_file, cluster=cluster)
            return replace(on_cpu, reasons=(f"{TOO_SMALL}: the CPU profile is used",))
        reasons = sizing.reasons if sizing else (TOO_SMALL if cards else UNREADABLE,)
        if sizing is not None:
            config = with_slots(config, sizing)
            flags = planned_settings(sizing, settings) | _given(flags)
            settings, warnings = read_settings(flags={**app_settings(config), **flags}, env_file=env_file)
    host, port = http_address(config)
    given = settings.model_fields_set
    arguments = _given(flags)
    if not settings.secret("ticket_secret"):
        arguments["ticket_secret"] = secrets.token_urlsafe(32)
    if settings.keys_file is not None:
        arguments["keys_file"] = str(settings.keys_file)  # a relative path is ours, not the replicas'
    host = settings.host if "host" in given or host is None else host
    require_keys(host, settings)
    changed = for_one_machine(
        config,
        host=host,
        port=settings.port if "port" in given or port is None else port,
        settings=arguments,
        env_file=env_file,
    )
    if settings.voice_in_ingress(on_gpu=profile == "gpu"):
        changed = without_deployment(changed, VOICE)
    if settings.num_ingress_replicas is not None:
        changed = with_replicas(changed, INGRESS, settings.num_ingress_replicas)
    size = cluster or ClusterOptions()
    longest_s = max(size.max_session_s, round(settings.max_session_s))
    return ServicePlan(
        config=changed,
        config_path=path,
        settings=settings,
        cluster=replace(size, max_session_s=longest_s, only_in_memory=settings.privacy == "strict"),
        profile=profile,
        warnings=warnings,
        edge=edge_options(settings),
        reasons=reasons,
    )


def require_keys(host: str, settings: Settings) -> None:
    """Raises `SettingsError` where other machines reach the service without a key, unless that is wanted."""
    if settings.has_keys or settings.allow_anonymous or is_loopback(host):
        return
    raise SettingsError(
        [
            f"host = {host!r}: other machines reach it, and no key is asked for. Set STT_API_KEY, "
            "or STT_KEYS_FILE with keys that `sotto keys create` makes; or start with --allow-anonymous"
        ]
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`; a name is `localhost` or counts as not."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _on_this_machine(settings: Settings, cluster: ClusterOptions | None) -> bool:
    """Whether the cards that we see are those that the models will use, and the models Whisper's."""
    here = cluster is None or cluster.address is None
    return here and settings.device in ("auto", "cuda") and runs_whisper(settings.engine)


def detect_profile() -> str:
    """ "gpu" where CTranslate2 can use one, "cpu" otherwise."""
    return "gpu" if num_cuda_devices() > 0 else "cpu"


def num_cuda_devices() -> int:
    """How many GPUs CTranslate2 can use; 0 without a driver."""
    import ctranslate2

    return int(ctranslate2.get_cuda_device_count())
