"""The full graph: ingress -> voice activity -> interim and final ASR -> diarization.

    serve run serve_config.cpu.yaml        import_path: graphs.full:build, args: {profile: cpu}

On a GPU interims and finals are two deployments with a share of the card each; on a CPU they are one
deployment with one priority queue, so that finals may use every core, and voice activity is detected within
the ingress (docs/decisions.md). On a CPU diarization is there where what it needs is installed; on GPUs
always, since the config file declares it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ray import serve

from deployments.diarization import Diarization
from deployments.final_asr import FinalAsr
from deployments.ingress import Ingress
from deployments.interim_asr import InterimAsr
from deployments.recogniser import Recogniser
from deployments.result_cache import ResultCacheHost
from deployments.short_asr import ShortAsr
from deployments.voice_activity import VoiceActivity
from serve_app.assembly.speakers import status_of
from serve_app.assembly.storage import cache_allowed
from serve_app.capacity.plan import GPU_SHARES
from serve_app.settings import Settings, load_settings

KNOWN = {"profile", "settings", "env_file"}


@dataclass(frozen=True, slots=True)
class GraphArguments:
    """Settings as they hold for this graph, and whether interims and finals have GPU shares."""

    settings: Settings
    on_gpu: bool

    @property
    def diarization_on_gpu(self) -> bool:
        """Whether speakers are told apart on a share of a GPU; the CPU is allowed beside one."""
        return self.on_gpu and self.settings.diarization_device in ("auto", "cuda")

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> GraphArguments:
        """Read the environment once, here. Raises `ValueError` for unknown arguments, `SettingsError`."""
        unknown = set(args) - KNOWN
        if unknown:
            raise ValueError(f"unknown graph arguments {sorted(unknown)}; known are {sorted(KNOWN)}")
        flags = dict(args.get("settings") or {})
        profile = args.get("profile", "auto")
        env_file = args.get("env_file")
        settings = load_settings(
            flags=flags, environ=os.environ, env_file=Path(env_file) if env_file else None
        )
        if settings.profile != "auto":
            profile = settings.profile
        return cls(settings, on_gpu=_wants_gpu(profile, settings.device))


def _wants_gpu(profile: str, device: str) -> bool:
    if profile not in ("auto", "cpu", "gpu"):
        raise ValueError(f"profile must be auto, cpu or gpu, got {profile!r}")
    if profile == "auto":
        import ray

        return device != "cpu" and ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0
    return profile == "gpu"


Options: TypeAlias = dict[str, Any]

MAX_ONGOING = 10_000
"""Far above what our own limits admit: a full Serve queue would answer a WebSocket with a bare 500."""


def build(args: Mapping[str, Any] | None = None) -> serve.Application:
    """Bind the graph. `args`: `profile` (auto, cpu, gpu), `settings` (name to value, as start flags)
    and `env_file`. Options of single deployments come from the config file's `deployments`."""
    arguments = GraphArguments.parse(args or {})
    settings = arguments.settings.to_dict()
    voice = None
    if not arguments.settings.voice_in_ingress(on_gpu=arguments.on_gpu):
        voice = _deployment(VoiceActivity, num_cpus=0.1).bind(settings)
    if arguments.on_gpu:
        interim = _deployment(InterimAsr, num_cpus=0.5, num_gpus=GPU_SHARES["interim"]).bind(settings)
        final = _deployment(FinalAsr, num_cpus=0.5, num_gpus=GPU_SHARES["final"]).bind(settings)
    else:
        interim = final = _deployment(Recogniser, num_cpus=1.0).bind(settings)
    short = None
    if arguments.on_gpu and arguments.settings.short_audio_on_cpu_s is not None:
        short = _deployment(ShortAsr, num_cpus=1.0).bind(
            settings | {"device": "cpu", "final_compute": "int8"}
        )
    speakers = None
    if arguments.on_gpu or status_of(arguments.settings).available:
        share = {"num_gpus": GPU_SHARES["diarization"]} if arguments.diarization_on_gpu else {}
        speakers = _deployment(Diarization, num_cpus=0.1, **share).bind(settings)
    cache = None
    if cache_allowed(arguments.settings):
        cache = _deployment(ResultCacheHost, num_cpus=0).bind(settings)
    ingress = _deployment(serve.ingress()(Ingress), num_cpus=0.1)
    if arguments.settings.num_ingress_replicas is not None and not arguments.on_gpu:
        ingress = ingress.options(num_replicas=arguments.settings.num_ingress_replicas)
    return ingress.bind(
        settings,
        voice,
        interim,
        final,
        shared_cores=not arguments.on_gpu,
        speakers=speakers,
        short=short,
        cache=cache,
    )


def _deployment(cls: type, **resources: float) -> serve.Deployment:
    options: Options = {
        "name": cls.__name__,
        "max_ongoing_requests": MAX_ONGOING,
        "max_surge_percent": 100,
        "health_check_period_s": 5,
        "health_check_timeout_s": 15,
        "graceful_shutdown_timeout_s": 30,
        "graceful_shutdown_wait_loop_s": 1,
        "ray_actor_options": resources,
    }
    return serve.deployment(cls, **options)
