"""From settings to a loaded recogniser: which model serves which role, and what stands in for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import structlog

from serve_app.asr.canary import Canary
from serve_app.asr.config import HostedModel, RecogniserConfig, build_recogniser
from serve_app.asr.engines.choice import is_installed, runs_whisper
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.guards import MEASURED
from serve_app.asr.recogniser import Recogniser
from serve_app.assembly.card_share import kept_to_share, own_share
from serve_app.assembly.models import find_model
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.audio.sample import SAMPLE_TEXT, speech_sample
from serve_app.capacity.machine import available_cores
from serve_app.core.jobs import Role
from serve_app.core.keyterms import KeytermMethod
from serve_app.models import ResolvedModel, fallback_for, resolve_or_fallback
from serve_app.models.languages import normalise_language
from serve_app.models.places import given_folder
from serve_app.models.registry import find_spec
from serve_app.models.report import ModelFormat
from serve_app.settings import Settings

INTERIM_TAIL_S = 5.0
FINAL_TAIL_S = 30.0
FINAL_PAD_S = 1.5

log = structlog.get_logger(__name__)


def load_recogniser(
    settings: Settings, roles: Sequence[Role], *, shares_cores: bool, gpu_fraction: float | None = None
) -> Recogniser:
    """Find, load and warm up the models of `roles`, and measure them. Blocking. Raises `ModelUnavailable`.

    `gpu_fraction`: the share of a card that models and batches have to fit into, where there is a card. An
    engine that is no Whisper keeps to its own memory.
    """
    config = recogniser_config(settings, roles, shares_cores=shares_cores)
    whisper = runs_whisper(settings.engine)
    share = own_share(settings.device, gpu_fraction) if whisper else None
    config = config if share is None else kept_to_share(config, share)
    canaries = {role: _canary(model, whisper) for role, model in config.models.items()}
    recogniser = build_recogniser(config, canaries=canaries)
    recogniser.measure(speech_sample())
    return recogniser


def recogniser_config(settings: Settings, roles: Sequence[Role], *, shares_cores: bool) -> RecogniserConfig:
    """What serves `roles`, the models found. Blocking. Raises `ModelUnavailable`.

    `shares_cores`: interims and finals run side by side on these workers, so that interims take one.
    An English-only interim model is joined by the finals' for the other languages. An engine that is no
    Whisper is told what was set, and finds its models itself.
    """
    whisper = runs_whisper(settings.engine)
    find = _hosted if whisper else _as_named
    models = {role: find(settings, role) for role in roles}
    if whisper and roles == (Role.INTERIM,) and len(models[Role.INTERIM].languages or ()) <= 1:
        models[Role.FINAL] = _hosted(settings, Role.FINAL)
    num_workers = settings.num_workers or available_cores()
    return RecogniserConfig(
        models=models,
        engine=settings.engine,
        needs_attention=settings.streaming_policy == "align_att" and roles != (Role.INTERIM,),
        device=settings.device,
        compute_type=settings.compute_type,
        num_workers=num_workers,
        threads_per_worker=settings.threads_per_worker,
        max_interim_workers=max(1, num_workers // 2) if shares_cores else num_workers,
        max_batch=settings.max_batch_size,
        beam_size=max(map(settings.beam_size_for, roles)),
        tails_s={role: INTERIM_TAIL_S if role is Role.INTERIM else FINAL_TAIL_S for role in Role},
        pads_s={Role.FINAL: FINAL_PAD_S, Role.RECORDING: FINAL_PAD_S},
        full_window_finals=settings.full_window_finals,
        short_floor_s=settings.short_final_window_s,
        guards=_guards(settings) if whisper else GuardOptions(enabled=False),
        offline=settings.offline,
        keyterms=KeytermMethod(settings.keyterm_method),
        cache_dir=settings.cache_dir,
        language=normalise_language(settings.language) or "",
    )


def _canary(model: HostedModel, whisper: bool) -> Canary:
    """Whisper's models of our own list know English well, also those that were made for another language."""
    ours = whisper and find_spec(model.name) is not None
    return Canary(speech_sample(), SAMPLE_TEXT, "en", must_know=ours)


def _guards(settings: Settings) -> GuardOptions:
    """The detector that suspicious texts are checked with is there whether or not it ends utterances."""
    if not settings.guards_enabled:
        return GuardOptions(enabled=False)
    detector = load_detector("silero")
    thresholds = replace(
        MEASURED,
        compression_ratio=settings.compression_ratio_threshold,
        logprob=settings.logprob_threshold,
        voice=settings.voice_threshold,
    )
    return GuardOptions(thresholds=thresholds, ask_voice=partial(voice_of, detector=detector))


def _hosted(settings: Settings, role: Role) -> HostedModel:
    found = _find(settings, role)
    spec = find_spec(found.name)
    return HostedModel(
        found.name,
        found.path,
        frozenset(found.languages) or None,
        settings.compute_type_for(role),
        translates=spec is None or spec.translates,
    )


def _as_named(settings: Settings, role: Role) -> HostedModel:
    """The model as it was set, "" where it was not: our own defaults are Whisper's."""
    own = "interim_model" if role is Role.INTERIM else "final_model"
    is_given = settings.model_fields_set & {own, "model"} or (
        role is Role.RECORDING and settings.offline_model
    )
    name = settings.model_name(role) if is_given else ""
    return HostedModel(name, given_folder(name, settings.model_dir), None, settings.compute_type_for(role))


def _formats(settings: Settings) -> tuple[ModelFormat, ...]:
    """Which folders the engine that may be chosen can read."""
    others = is_installed("torch") or is_installed("mlx")
    if settings.engine == "ctranslate2" or not (others or settings.engine == "onnx"):
        return (ModelFormat.CTRANSLATE2,)
    return tuple(ModelFormat)


def _stand_in(role: Role, name: str) -> str:
    usual = "tiny.en" if role is Role.INTERIM else "base"
    return usual if usual != name else fallback_for(name)


def _find(settings: Settings, role: Role) -> ResolvedModel:
    """The role's model, or its stand-in with a warning."""
    name = settings.model_name(role)
    find = partial(find_model, settings=settings, formats=_formats(settings))
    found, warning = resolve_or_fallback(name, _stand_in(role, name), find)
    if warning is not None:
        log.warning("model replaced", wanted=name, used=found.name, reason=warning)
    return found
