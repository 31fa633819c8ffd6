"""What a recogniser asks of a transcriber: one loaded model and the rules around it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serve_app.asr.jobs import DecodeJob, DecodeResult, ModelInfo, Role, Task


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
