"""A recogniser's choices as plain data, and the recogniser they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.asr.engines.base import Engine
from serve_app.asr.engines.choice import EngineName, choose_engine, load_engine
from serve_app.asr.folder import open_model_folder
from serve_app.asr.guarded import GuardOptions
from serve_app.asr.jobs import Role
from serve_app.asr.ports import Transcriber
from serve_app.asr.recogniser import Recogniser
from serve_app.asr.scheduler import SchedulerLimits
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.asr.windows import WindowPolicy

MAX_CPU_INTERIM_BATCH = 4
CPU_INTERIM_BUCKET_FRAMES = 200
GPU_BUCKET_FRAMES = 200
GPU_PROMPT_LENGTHS = (32, 64, 128, 223)
SHORT_S = 2.0
"""Of audio with its margins: up to 1.6 s of speech."""


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model by name and folder.

    `languages` where it knows fewer than its vocabulary has; `compute_type` where it is not the config's.
    """

    name: str
    path: Path
    languages: frozenset[str] | None = None
    compute_type: str | None = None
    translates: bool = True


@dataclass(frozen=True, slots=True)
class RecogniserConfig:
    """What to load and how to share the workers.

    `models` per role; a role without one is served by another's. The same name and
    precision twice are loaded once.
    `needs_attention`: a session may ask for AlignAtt, so that an engine is chosen that can.
    `max_offline_workers` None: all but one. `max_batch`: on a CPU, where all items wait for the longest, of
    interims alone, and `MAX_CPU_INTERIM_BATCH` at most. `beam_size`: what memory is computed for; a job says
    its own.
    Windows: `pad_s` (by role `pads_s`) and `floor_s` for all roles, spliced silence by role;
    `full_window_finals` encodes all 30 s for finals and recordings, `short_floor_s` so much of them where
    they are no longer than `SHORT_S`.
    """

    models: Mapping[Role, HostedModel]
    engine: str = "auto"
    needs_attention: bool = False
    device: str = "auto"
    compute_type: str = "auto"
    num_workers: int = 2
    threads_per_worker: int = 1
    max_interim_workers: int = 1
    max_offline_workers: int | None = None
    max_batch: int = 8
    beam_size: int = 1
    max_queue: int = 512
    pad_s: float = 0.5
    floor_s: float = 1.0
    pads_s: Mapping[Role, float] = field(default_factory=dict)
    tails_s: Mapping[Role, float] = field(
        default_factory=lambda: {Role.INTERIM: 5.0, Role.FINAL: 30.0, Role.OFFLINE: 30.0}
    )
    full_window_finals: bool = False
    short_floor_s: float = 10.0
    guards: GuardOptions = GuardOptions()
    detect_floor_s: float = 6.0

    def compute_type_for(self, model: HostedModel) -> str:
        """The model's own precision, else `compute_type`."""
        return model.compute_type or self.compute_type

    def engine_for(self, model: HostedModel) -> EngineName:
        """Raises `ModelUnavailable` where no engine can read the model's folder here."""
        return choose_engine(
            self.engine, model.path, device=self.device, needs_attention=self.needs_attention
        )

    def limits(self, *, on_card: bool) -> SchedulerLimits:
        """The scheduler's share of the choices."""
        offline = self.max_offline_workers or max(1, self.num_workers - 1)
        batches = dict.fromkeys(Role, self.max_batch if on_card else 1)
        if not on_card:
            batches[Role.INTERIM] = min(MAX_CPU_INTERIM_BATCH, self.max_batch)
        return SchedulerLimits(
            num_workers=self.num_workers,
            max_interim_workers=self.max_interim_workers,
            max_offline_workers=offline,
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
            )
            for role in Role
        }


def build_recogniser(config: RecogniserConfig, *, warm_up: bool = True) -> Recogniser:
    """Load every model once and warm it up. Blocking: seconds. Raises `ModelUnavailable`."""
    loaded: dict[tuple[Path, str], Engine] = {}
    transcribers: dict[tuple[Path, str], Transcriber] = {}
    hosted: dict[Role, Transcriber] = {}
    for role, model in config.models.items():
        key = (model.path, config.compute_type_for(model))
        if key not in loaded:
            loaded[key] = _load(config, model)
            transcriber = transcriber_of(config, model, loaded[key])
            if warm_up:
                transcriber.warm_up()
            transcribers[key] = transcriber
        hosted[role] = transcribers[key]
    on_card = any(_on_card(engine) for engine in loaded.values())
    return Recogniser(hosted, config.limits(on_card=on_card))


def transcriber_of(config: RecogniserConfig, model: HostedModel, engine: Engine) -> WhisperTranscriber:
    """The rules of this config around a loaded engine."""
    on_card = _on_card(engine)
    max_batch = max(config.limits(on_card=on_card).max_batch.values(), default=1)
    options = TranscriberOptions(
        windows=config.windows(on_card=on_card),
        languages=model.languages,
        translates=model.translates,
        prompt_lengths=GPU_PROMPT_LENGTHS if max_batch > 1 else (),
        detect_floor_s=config.detect_floor_s,
        guards=config.guards,
        max_batch=max_batch,
    )
    return WhisperTranscriber(model.name, engine, open_model_folder(model.path), options)


def _load(config: RecogniserConfig, model: HostedModel) -> Engine:
    open_model_folder(model.path)
    return load_engine(
        config.engine_for(model),
        model.path,
        device=config.device,
        compute_type=config.compute_type_for(model),
        num_workers=config.num_workers,
        threads=config.threads_per_worker,
    )


def _on_card(engine: Engine) -> bool:
    return engine.capabilities.device != "cpu"
