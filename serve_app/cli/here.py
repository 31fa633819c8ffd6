"""What this machine can do: how many people may talk at once, as a service that runs here says, else measured
now; and what each engine for CPUs takes for the same speech, which the choice of engine then goes by."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from serve_app.settings import Settings

ASK_TIMEOUT_S = 2.0
MEASURE_ENGINE_S = 3.0


@dataclass(frozen=True, slots=True)
class Here:
    """`speakers` at once; 0: not known. `source` says where it is from."""

    speakers: int
    model: str
    source: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def text(self) -> str:
        return f"about {self.speakers} at once with {self.model} ({self.source})"


def speakers_here(settings: Settings) -> Here:
    """Blocking: seconds, where no service runs here. Raises `ModelUnavailable`."""
    return _as_the_service_says(settings.service_url) or _as_measured(settings)


def _as_the_service_says(url: str) -> Here | None:
    import httpx

    try:
        body = httpx.get(f"{url.rstrip('/')}/health/status", timeout=ASK_TIMEOUT_S).json()
        speakers, model = int(body["capacity"]["estimated_max_concurrent"]), str(body["model"]["model_size"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    return Here(speakers, model, f"the service at {url}") if speakers > 0 else None


def _as_measured(settings: Settings) -> Here:
    from serve_app.assembly.recognisers import load_recogniser
    from serve_app.capacity.machine import available_cores
    from serve_app.capacity.speakers import Speed, speakers_at_once
    from serve_app.core.jobs import Role

    recogniser = load_recogniser(settings, (Role.FINAL, Role.INTERIM, Role.RECORDING), shares_cores=True)
    model = recogniser.models()[0]
    cores = available_cores() if model.device == "cpu" else None
    speed = Speed(model.audio_s_per_s, model.cpu_s_per_audio_s)
    source = f"measured now: {speed.at_start:.0f} s of audio a second"
    return Here(speakers_at_once(speed, cores=cores), model.name, source)


@dataclass(frozen=True, slots=True)
class EngineCost:
    """CPU seconds of one engine for a second of live audio."""

    engine: str
    interims_s: float
    final_s: float

    @property
    def text(self) -> str:
        total_ms = 1000 * (self.interims_s + self.final_s)
        parts = f"interims {1000 * self.interims_s:.0f}, finals {1000 * self.final_s:.0f}"
        return f"{total_ms:.0f} ms of CPU a second of live audio ({parts})"


def measure_engines(settings: Settings) -> list[EngineCost]:
    """Decode the same sentence with every engine that may be chosen here, and keep the figures, the least of
    which makes the choice. Blocking: some seconds for each. Empty where there is nothing to choose: an engine
    was set, or a card runs the models. Raises `ModelUnavailable`, OSError."""
    from serve_app.asr.config import load_transcribers
    from serve_app.asr.engines.choice import AUTO, engines_on_cpu, is_on_cpu
    from serve_app.asr.engines.measured import write_costs
    from serve_app.assembly.recognisers import recogniser_config
    from serve_app.core.jobs import Role

    if settings.engine not in AUTO or not is_on_cpu(settings.device):
        return []
    config = recogniser_config(settings, (Role.FINAL, Role.INTERIM), shares_cores=True)
    folders = {model.path for model in config.models.values() if model.path is not None}
    choices = [set(engines_on_cpu(folder, needs_attention=config.needs_attention)) for folder in folders]
    names = sorted(set.intersection(*choices)) if choices else []
    if len(names) < 2:
        return []
    found = []
    costs: defaultdict[Path, dict[str, float]] = defaultdict(dict)
    for name in names:
        cost = _cost_of(name, dict(load_transcribers(replace(config, engine=name, num_workers=1))))
        found.append(cost)
        for folder in folders:
            costs[folder][name] = cost.interims_s + cost.final_s
    write_costs(costs, settings.cache_dir)
    return sorted(found, key=lambda cost: cost.interims_s + cost.final_s)


def _cost_of(name: str, models: Any) -> EngineCost:
    """The least of some rounds: other processes may be starting up at the same time."""
    from serve_app.audio.sample import speech_sample
    from serve_app.core.jobs import Role, Task
    from serve_app.core.samples import SAMPLE_RATE_HZ
    from serve_app.service.replay import Replay, replay_utterance

    speech = speech_sample()
    known = sorted(models[Role.FINAL].info.languages)
    language = "en" if models[Role.FINAL].info.can("en", Task.TRANSCRIBE) or not known else known[0]
    if not models[Role.INTERIM].info.can(language, Task.TRANSCRIBE):
        models = dict.fromkeys(models, models[Role.FINAL])
    replay_utterance(models, speech, language)  # the first of each shape costs more
    rounds: list[Replay] = []
    began_s = time.perf_counter()
    while not rounds or time.perf_counter() - began_s < MEASURE_ENGINE_S:
        rounds.append(replay_utterance(models, speech, language))
    best = min(rounds, key=lambda each: each.interim_cpu_s + each.final_cpu_s)
    audio_s = len(speech) / SAMPLE_RATE_HZ
    return EngineCost(name, best.interim_cpu_s / audio_s, best.final_cpu_s / audio_s)
