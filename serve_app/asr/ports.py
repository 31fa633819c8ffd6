"""What a recogniser asks of a transcriber, one loaded model and the rules around it, and what its factory is
told."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from serve_app.asr.windows import MAX_AUDIO_S
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import (
    DecodeJob,
    DecodeResult,
    ModelInfo,
    Role,
    Task,
)
from serve_app.core.samples import SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class ModelToLoad:
    """What the factory of an engine or a transcriber is told (`serve_app/asr/engines/choice.py`).

    `name` and `path` of the model. For a Whisper engine the path is a folder whose files are there and
    checked. For any other transcriber the name is the one that was set, "" where none was (it takes its own
    default), and the path is the folder that this name means, None where it means none.
    `device` (auto, cpu, cuda, mps) and `compute_type` (auto, int8, float16, ...) as they were set.
    `num_workers` threads may call what is loaded at the same time, each with `threads_per_worker` of the CPU
    and at most `max_batch` jobs. `offline`: the network must not be asked for weights. `cache_dir`: where an
    engine may keep what it makes of a model; None: the usual place. `language`: that of those
    who choose none, ISO code; "": theirs is detected.
    """

    name: str
    path: Path | None
    device: str = "auto"
    compute_type: str = "auto"
    num_workers: int = 1
    threads_per_worker: int = 1
    max_batch: int = 1
    offline: bool = False
    cache_dir: Path | None = None
    language: str = ""

    @property
    def folder(self) -> Path:
        """The path of a model that must have one. Raises `ModelUnavailable`."""
        if self.path is None:
            raise ModelUnavailable(f"the model {self.name!r} is no folder here")
        return self.path


@dataclass(frozen=True, slots=True)
class TranscriberInfo:
    """What a transcriber can do, as data. `languages` are Whisper codes; English alone for English models.

    `attention`: it takes jobs with an attention rule. `translates`: it was trained to, not all are.
    """

    model: str
    engine: str
    device: str
    compute_type: str
    multilingual: bool
    languages: frozenset[str]
    path: str
    attention: bool = False
    translates: bool = True

    def can(self, language: str | None, task: Task) -> bool:
        """Whether it can decode this language (None: any that may come) to this task's text."""
        if language is None:
            return self.multilingual and (task is Task.TRANSCRIBE or self.translates)
        return language in self.languages and (
            task is Task.TRANSCRIBE or language == "en" or (self.multilingual and self.translates)
        )

    def of_role(self, role: Role) -> ModelInfo:
        """The same, as the status pages show it."""
        return ModelInfo(
            name=self.model,
            role=role.value,
            engine=self.engine,
            device=self.device,
            compute_type=self.compute_type,
            multilingual=self.multilingual,
            path=self.path,
            languages=tuple(sorted(self.languages)),
            attention=self.attention,
            translates=self.translates and self.multilingual,
        )


class Transcriber(Protocol):
    """Turns jobs into text. Thread-safe: a recogniser's workers call it at the same time."""

    @property
    def info(self) -> TranscriberInfo: ...

    def batch_key(self, job: DecodeJob) -> Hashable:
        """Jobs with equal keys may share a batch. Cheap, never raises on a bad job."""

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        """One answer per job, in order; a bad job fails alone. Blocking; raises nothing for a job."""

    def warm_up(self) -> None:
        """Decode something once, so that the first session does not wait for lazy set-up."""


# -- is a job one that a model can decode? Asked before a batch, since one bad item fails all of it ----------

MAX_BEAM_SIZE = 20
MAX_TEMPERATURE = 1.0
MAX_PREFIX_CHARS = 1_000


def complaint(job: DecodeJob, info: TranscriberInfo) -> str | None:
    """What is wrong with the job, safe to send to the caller; None for a sound one."""
    if job.attention is not None and not info.attention:
        return f"the engine {info.engine} gives no attention: align_att needs the onnx, torch or mlx engine"
    return audio_complaint(job) or language_complaint(job, info)


def audio_complaint(job: DecodeJob) -> str | None:
    audio = job.audio
    if not isinstance(audio, np.ndarray) or audio.dtype != np.int16 or audio.ndim != 1:
        return "the audio is not a one-dimensional array of int16 samples"
    if len(audio) > MAX_AUDIO_S * SAMPLE_RATE_HZ:
        return f"the audio is {job.audio_s:.2f} s long, a window holds {MAX_AUDIO_S:.0f} s"
    if not 1 <= job.beam_size <= MAX_BEAM_SIZE:
        return f"beam_size is {job.beam_size}, expected 1 to {MAX_BEAM_SIZE}"
    if not 0 <= job.temperature <= MAX_TEMPERATURE:
        return f"temperature is {job.temperature}, expected 0 to {MAX_TEMPERATURE:g}"
    if len(job.prefix) > MAX_PREFIX_CHARS:
        return f"the prefix is {len(job.prefix)} characters long, at most {MAX_PREFIX_CHARS} are taken"
    return None


def language_complaint(job: DecodeJob, info: TranscriberInfo) -> str | None:
    """English models never answer for another language; asked for none, they take it to be English."""
    if job.language is not None and job.language not in info.languages:
        return f"the model {info.model} does not know the language {job.language!r}"
    if job.task is Task.TRANSLATE and job.language != "en" and not info.can(job.language, job.task):
        return f"the model {info.model} cannot translate"
    return None
