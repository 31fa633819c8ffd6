"""A recogniser's choices as plain data, and the recogniser they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from serve_app.asr.canary import Canary, CanaryOf
from serve_app.asr.engines.base import Engine
from serve_app.asr.engines.choice import (
    AUTO,
    choose_engine,
    engines_on_cpu,
    load_engine,
    load_transcriber,
    runs_whisper,
)
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.folder import open_model_folder
from serve_app.asr.ports import ModelToLoad, Transcriber
from serve_app.asr.recogniser import Recogniser
from serve_app.asr.scheduler import SchedulerLimits
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.asr.windows import WindowPolicy
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import Role
from serve_app.core.keyterms import KeytermMethod

MAX_CPU_INTERIM_BATCH = 4
CPU_INTERIM_BUCKET_FRAMES = 200
GPU_BUCKET_FRAMES = 200
GPU_PROMPT_LENGTHS = (32, 64, 128, 223)
SHORT_S = 2.0
"""Of audio with its margins: up to 1.6 s of speech."""
LONE_S = 1.2
"""Of audio with its margins: lone words. Nearly all of them were read again in the full window."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model by name and folder; a recogniser that is no Whisper may have one without a folder.

    `languages` where it knows fewer than its vocabulary has; `compute_type` where it is not the config's.
    """

    name: str
    path: Path | None
    languages: frozenset[str] | None = None
    compute_type: str | None = None
    translates: bool = True


@dataclass(frozen=True, slots=True)
class RecogniserConfig:
    """What to load and how to share the workers.

    `engine`: auto, or the name of one that is installed (`serve_app/asr/engines/choice.py`); `offline` tells
    one that is no Whisper not to ask the network. `cache_dir`: where an
    engine keeps what it makes of a model. `language`: of those who choose none, "" where it is detected.
    `models` per role; a role without one is served by another's. The same name and
    precision twice are loaded once.
    `keyterms`: what is done with hotwords. `needs_attention`: a session may ask for AlignAtt, so that an
    engine is chosen that can.
    `max_recording_workers` None: all but one. `max_batch`: on a CPU, where all items wait for the longest, of
    interims alone, and `MAX_CPU_INTERIM_BATCH` at most. `beam_size`: what memory is computed for; a job says
    its own.
    Windows: `pad_s` (by role `pads_s`) and `floor_s` for all roles, spliced silence by role;
    `full_window_finals` encodes all 30 s for finals and recordings, `short_floor_s` so much of them where
    they are no longer than `SHORT_S`; over 0, all of them up to `LONE_S`.
    """

    models: Mapping[Role, HostedModel]
    engine: str = "auto"
    needs_attention: bool = False
    device: str = "auto"
    compute_type: str = "auto"
    num_workers: int = 2
    threads_per_worker: int = 1
    max_interim_workers: int = 1
    max_recording_workers: int | None = None
    max_batch: int = 8
    beam_size: int = 1
    max_queue: int = 512
    pad_s: float = 0.5
    floor_s: float = 1.0
    pads_s: Mapping[Role, float] = field(default_factory=dict)
    tails_s: Mapping[Role, float] = field(
        default_factory=lambda: {Role.INTERIM: 5.0, Role.FINAL: 30.0, Role.RECORDING: 30.0}
    )
    full_window_finals: bool = False
    short_floor_s: float = 10.0
    guards: GuardOptions = GuardOptions()
    detect_floor_s: float = 6.0
    offline: bool = False
    keyterms: KeytermMethod = KeytermMethod.LIFT
    cache_dir: Path | None = None
    language: str = ""

    def compute_type_for(self, model: HostedModel) -> str:
        """The model's own precision, else `compute_type`."""
        return model.compute_type or self.compute_type

    def to_load(self, model: HostedModel) -> ModelToLoad:
        """What the engine's factory is told of a model."""
        return ModelToLoad(
            model.name,
            model.path,
            device=self.device,
            compute_type=self.compute_type_for(model),
            num_workers=self.num_workers,
            threads_per_worker=self.threads_per_worker,
            max_batch=self.max_batch,
            offline=self.offline,
            cache_dir=self.cache_dir,
            language=self.language,
        )

    def engine_for(self, model: HostedModel) -> str:
        """Raises `ModelUnavailable` where no engine can read the model's folder here."""
        folder = self.to_load(model).folder
        return choose_engine(
            self.engine,
            folder,
            device=self.device,
            needs_attention=self.needs_attention,
            cache_dir=self.cache_dir,
        )

    def limits(self, *, on_card: bool) -> SchedulerLimits:
        """The scheduler's share of the choices."""
        for_recordings = self.max_recording_workers or max(1, self.num_workers - 1)
        batches = dict.fromkeys(Role, self.max_batch if on_card else 1)
        if not on_card:
            batches[Role.INTERIM] = min(MAX_CPU_INTERIM_BATCH, self.max_batch)
        return SchedulerLimits(
            num_workers=self.num_workers,
            max_interim_workers=self.max_interim_workers,
            max_recording_workers=for_recordings,
            max_batch=batches,
            max_queue=self.max_queue,
        )

    def windows(self, *, on_card: bool) -> dict[Role, WindowPolicy]:
        """Every role's window policy."""
        bucket_frames = dict.fromkeys(Role, GPU_BUCKET_FRAMES if on_card else WindowPolicy().bucket_frames)
        if not on_card:
            bucket_frames[Role.INTERIM] = CPU_INTERIM_BUCKET_FRAMES
        return {
            role: WindowPolicy(
                pad_s=self.pads_s.get(role, self.pad_s),
                floor_s=self.floor_s,
                tail_s=self.tails_s.get(role, WindowPolicy().tail_s),
                bucket_frames=bucket_frames[role],
                full_window=self.full_window_finals and role is not Role.INTERIM,
                short_s=0.0 if role is Role.INTERIM else SHORT_S,
                short_floor_s=self.short_floor_s,
                lone_s=LONE_S if self.short_floor_s > 0 and role is not Role.INTERIM else 0.0,
            )
            for role in Role
        }


def build_recogniser(
    config: RecogniserConfig, *, warm_up: bool = True, canaries: Mapping[Role, Canary] | None = None
) -> Recogniser:
    """Load every model once, warm it up and try it with its role's canary, where there is one. Blocking:
    seconds. Raises `ModelUnavailable`."""
    tried: dict[Role, CanaryOf] = {}
    hosted: dict[Role, Transcriber] = {}
    for role, transcriber in load_transcribers(config):
        if transcriber not in hosted.values():
            if warm_up:
                transcriber.warm_up()
            if canaries and role in canaries:
                tried[role] = canaries[role].first(transcriber, role)
        hosted[role] = transcriber
    on_card = any(transcriber.info.device != "cpu" for transcriber in hosted.values())
    return Recogniser(hosted, config.limits(on_card=on_card), canaries=tried)


def load_transcribers(config: RecogniserConfig) -> Iterator[tuple[Role, Transcriber]]:
    """Each role with its model, as it is loaded; one that serves two roles is loaded once. Blocking. Raises
    `ModelUnavailable`."""
    loaded: dict[tuple[Path | str, str], Transcriber] = {}
    for role, model in config.models.items():
        key = (model.path or model.name, config.compute_type_for(model))
        if key not in loaded:
            loaded[key] = _load(config, model)
        yield role, loaded[key]


def transcriber_of(config: RecogniserConfig, model: HostedModel, engine: Engine) -> WhisperTranscriber:
    """The rules of this config around a loaded engine."""
    on_card = engine.capabilities.device != "cpu"
    max_batch = max(config.limits(on_card=on_card).max_batch.values(), default=1)
    options = TranscriberOptions(
        windows=config.windows(on_card=on_card),
        languages=model.languages,
        translates=model.translates,
        prompt_lengths=GPU_PROMPT_LENGTHS if max_batch > 1 else (),
        detect_floor_s=config.detect_floor_s,
        guards=config.guards,
        keyterms=config.keyterms,
        max_batch=max_batch,
    )
    folder = open_model_folder(config.to_load(model).folder)
    return WhisperTranscriber(model.name, engine, folder, options)


def _load(config: RecogniserConfig, model: HostedModel) -> Transcriber:
    wanted = config.to_load(model)
    if not runs_whisper(config.engine):
        return load_transcriber(config.engine, wanted)
    open_model_folder(wanted.folder)
    return transcriber_of(config, model, _load_engine(config, model))


def _load_engine(config: RecogniserConfig, model: HostedModel) -> Engine:
    """One that was chosen by itself and cannot be had (its graphs cannot be written, say) gives way."""
    wanted, name = config.to_load(model), config.engine_for(model)
    try:
        return load_engine(name, wanted)
    except ModelUnavailable as error:
        others = engines_on_cpu(wanted.folder, needs_attention=config.needs_attention)
        instead = next((other for other in others if other != name), None)
        if config.engine not in AUTO or name not in others or instead is None:
            raise
        _log.warning("engine replaced", wanted=name, used=instead, reason=str(error))
        return load_engine(instead, wanted)
