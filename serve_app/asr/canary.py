"""Whether a transcriber still writes what it hears: a clip of known text, at the start and while idle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import SequenceMatcher

import structlog

from serve_app.asr.ports import Transcriber
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import DecodeFailure, DecodeJob, DecodeResult, Role, Task
from serve_app.core.samples import Pcm16

_log = structlog.get_logger(__name__)

MIN_LIKENESS = 0.5
"""Of the words, 1 where all are the same: the smallest models reach 0.9, noise in the weights 0.1."""
JOB_ID = -1


@dataclass(frozen=True, slots=True)
class Canary:
    """Speech, and the text that a model of its language writes. `must_know`: one that does not is broken."""

    audio: Pcm16
    text: str
    language: str
    must_know: bool = True

    def job(self, transcriber: Transcriber, role: Role) -> DecodeJob:
        """As a recording: what waits for a recogniser goes before it. `role`: whose model decodes."""
        knows = transcriber.info.can(self.language, Task.TRANSCRIBE)
        language = self.language if knows else next(iter(sorted(transcriber.info.languages)), None)
        return DecodeJob(JOB_ID, Role.RECORDING, self.audio, language, model=role)

    def first(self, transcriber: Transcriber, role: Role) -> CanaryOf:
        """Decode it once, before the first client. Raises `ModelUnavailable` where that fails, and where the
        text of a model that `must_know` is another; any other model is known to be no judge of this clip."""
        (result,) = transcriber.transcribe([self.job(transcriber, role)])
        exact = transcriber.info.can(self.language, Task.TRANSCRIBE)
        said = CanaryOf(self, exact).complaint(result)
        if said and not CanaryOf(self, False).complaint(result) and not (exact and self.must_know):
            _log.warning("this model does not know the text of the clip", model=transcriber.info.model)
            return CanaryOf(self, False)
        if said:
            raise ModelUnavailable(f"the model {transcriber.info.model!r} is of no use: {said}")
        return CanaryOf(self, exact)


@dataclass(frozen=True, slots=True)
class CanaryOf:
    """What one transcriber has to answer: the text where it is `exact`, else an answer in numbers."""

    canary: Canary
    exact: bool

    def complaint(self, result: DecodeResult) -> str:
        """What is wrong with an answer; "" where nothing is. Never holds the words that were decoded."""
        if isinstance(result, DecodeFailure):
            return f"a known clip cannot be decoded: {result.message}"
        if not all(map(math.isfinite, (result.avg_logprob, result.confidence, result.no_speech_prob))):
            return "the figures of a known clip are not numbers"
        if not self.exact:
            return ""
        if not result.text.strip():
            return "a known clip has no text"
        alike = likeness(self.canary.text, result.text)
        return "" if alike >= MIN_LIKENESS else f"the text of a known clip is wrong (likeness {alike:.2f})"


def likeness(expected: str, said: str) -> float:
    """Of the words of two texts, without case and punctuation: 0 to 1."""
    return SequenceMatcher(None, _words(expected), _words(said), autojunk=False).ratio()


def _words(text: str) -> list[str]:
    return "".join(char if char.isalnum() else " " for char in text.casefold()).split()
