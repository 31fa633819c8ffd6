"""The full graph: ingress -> voice activity -> interim and final ASR -> diarization.

    serve run serve_config.cpu.yaml        import_path: graphs.full:build, args: {profile: cpu}

On a GPU interims and finals are two deployments with a share of the card each; on a CPU they are one
deployment with one priority queue, so that finals may use every core (docs/decisions.md). On a CPU
diarization is there where what it needs is installed; on GPUs always, since the config file declares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ray import serve

from deployments.diarization import Diarization
from deployments.final_asr import FinalAsr
from deployments.ingress import Ingress
from deployments.interim_asr import InterimAsr
from deployments.recogniser import Recogniser
from deployments.short_asr import ShortAsr
from deployments.voice_activity import VoiceActivity
from graphs.arguments import GraphArguments
from serve_app.speakers.backends import status_of

Options: TypeAlias = dict[str, Any]

MAX_ONGOING = 10_000
"""Far above what our own limits admit: a full Serve queue would answer a WebSocket with a bare 500."""


def build(args: Mapping[str, Any] | None = None) -> serve.Application:
    """Bind the graph. `args`: `profile` (auto, cpu, gpu), `settings` (name to value, as start flags)
    and `env_file`. Options of single deployments come from the config file's `deployments`."""
    arguments = GraphArguments.parse(args or {})
    settings = arguments.settings.to_dict()
    voice = _deployment(VoiceActivity, num_cpus=0.1).bind(settings)
    if arguments.on_gpu:
        interim = _deployment(InterimAsr, num_cpus=0.5, num_gpus=0.15).bind(settings)
        final = _deployment(FinalAsr, num_cpus=0.5, num_gpus=0.35).bind(settings)
    else:
        interim = final = _deployment(Recogniser, num_cpus=1.0).bind(settings)
    short = None
    if arguments.on_gpu and arguments.settings.short_audio_on_cpu_s is not None:
        short = _deployment(ShortAsr, num_cpus=1.0).bind(
            settings | {"device": "cpu", "final_compute": "int8"}
        )
    speakers = None
    if arguments.on_gpu or status_of(arguments.settings).available:
        share = {"num_gpus": 0.1} if arguments.diarization_on_gpu else {}
        speakers = _deployment(Diarization, num_cpus=0.1, **share).bind(settings)
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
    )


def _deployment(cls: type, **resources: float) -> serve.Deployment:
    options: Options = {
        "name": cls.__name__,
        "max_ongoing_requests": MAX_ONGOING,
        "max_surge_percent": 100,
        "health_check_period_s": 5,
        "graceful_shutdown_timeout_s": 30,
        "graceful_shutdown_wait_loop_s": 1,
        "ray_actor_options": resources,
    }
    return serve.deployment(cls, **options)
