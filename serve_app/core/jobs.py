"""What crosses the wire between the conductor and a recogniser: plain records and int16 arrays.

A `DecodeJob` asks for the text of one stretch of audio; the answer is a `Transcript` or, for that
item alone, a `DecodeFailure`. Jobs are idempotent: the same job may be sent again after a replica died.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta

from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16


class Role(StrEnum):
    """Who waits for the text; in the order in which a recogniser serves them."""

    FINAL = "final"
    INTERIM = "interim"
    RECORDING = "recording"


class Task(StrEnum):
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


FrameThreshold: TypeAlias = Annotated[
    int,
    Meta(
        ge=1,
        le=500,
        description="`align_att`: number of last 20 ms frames; text that attends to them is not certain.",
    ),
]


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """AlignAtt: commit text up to the first token that attends to the last `frame_threshold` states (20 ms
    each) of the audio; drop an update whose attention jumps back by more than `rewind_threshold` states.

    Papi et al. 2023, "AlignAtt: Using Attention-based Audio-Translation Alignments as a Guide for
    Simultaneous Speech Translation" (arXiv 2305.11408).
    """

    frame_threshold: FrameThreshold = 25
    rewind_threshold: int = 200


@dataclass(frozen=True, slots=True)
class LanguageHint:
    """What is known of a job's language. `among`: the only ones it may be, empty: any. `evidence`: seconds of
    speech that were heard in a language before, weighted by probability."""

    among: tuple[str, ...] = ()
    evidence: tuple[tuple[str, float], ...] = ()

    def seconds(self, language: str) -> float:
        return dict(self.evidence).get(language, 0.0)


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """One stretch of audio to turn into text.

    `job_id` is unique within the sender. `role` says who waits, `model` whose model decodes (None: the
    role's own). `language` is a Whisper code ("en", "pt"), or None to detect it with the help of `hint`.
    `prompt` is previous text and `hotwords` are words to expect (Whisper's `<|startofprev|>` context), both
    may be empty. `prefix` is text that the answer begins with, `draft` what it probably goes on with:
    that changes no text and saves time in engines that can check it. `temperature` over 0 samples.
    `attention` needs an engine that gives it. `fresh_s`: of an interim, seconds of audio that the one before
    it had not.
    `trace`: W3C `traceparent` of the span that asks, "" where nothing is traced.
    """

    job_id: int
    role: Role
    audio: Pcm16
    language: str | None = None
    task: Task = Task.TRANSCRIBE
    word_timestamps: bool = False
    prompt: str = ""
    beam_size: int = 1
    temperature: float = 0.0
    hotwords: str = ""
    prefix: str = ""
    draft: str = ""
    attention: AttentionRule | None = None
    model: Role | None = None
    fresh_s: float | None = None
    hint: LanguageHint = LanguageHint()
    trace: str = ""

    @property
    def audio_s(self) -> float:
        return len(self.audio) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word. `word` keeps its leading space and punctuation as Whisper wrote them;
    times in seconds from the first sample of the job's audio; `probability` in [0, 1]. `speaker` counts from
    0, None where speakers were not asked for or it is not known (yet)."""

    word: str
    start_s: float
    end_s: float
    probability: float
    speaker: int | None = None

    def shifted(self, seconds: float) -> Word:
        """The same, so much later."""
        return replace(self, start_s=self.start_s + seconds, end_s=self.end_s + seconds)


@dataclass(frozen=True, slots=True)
class DecodeTiming:
    """Where the time of one job went, milliseconds of wall time inside the recogniser.

    The times of a batch are those of each of its items; `batch_size` says how many shared them, `batch_id`
    counts the batches of one replica.
    """

    preprocess_ms: float = 0.0
    queue_wait_ms: float = 0.0
    inference_ms: float = 0.0
    postprocess_ms: float = 0.0
    batch_size: int = 1
    batch_id: int = 0


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of one job.

    `avg_logprob` is the mean log-probability per token (end token included), `confidence` the probability
    that a word of it is right. `rejected` names the guard that took the text away, `doubted` the one that
    does not believe it though a voice speaks; `looped` says that a repetition was cut out of it. An interim
    whose language is not known yet has no text and no `language`. `committed_chars` of the text are safe by
    the job's attention rule.
    """

    job_id: int
    text: str
    language: str
    language_probability: float
    avg_logprob: float
    no_speech_prob: float
    model: str
    words: tuple[Word, ...] = ()
    timing: DecodeTiming = DecodeTiming()
    confidence: float = 0.0
    temperature: float = 0.0
    compression_ratio: float = 0.0
    rejected: str = ""
    doubted: str = ""
    looped: bool = False
    committed_chars: int = 0


@dataclass(frozen=True, slots=True)
class DecodeFailure:
    """Why one job has no text. `retryable`: the same job may succeed if sent again."""

    job_id: int
    message: str
    retryable: bool = False


DecodeResult: TypeAlias = Transcript | DecodeFailure


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a recogniser says of one model it hosts; `languages` empty: it does not say;
    `attention`: it can serve AlignAtt; `translates`: it can write other languages in English.

    What its replica decodes of finals, in seconds of audio per second, as measured at the start and of late,
    and the CPU time that one of these seconds takes; 0: not measured."""

    name: str
    role: str
    engine: str
    device: str
    compute_type: str
    multilingual: bool
    path: str
    languages: tuple[str, ...] = ()
    attention: bool = False
    translates: bool = True
    audio_s_per_s: float = 0.0
    recent_audio_s_per_s: float = 0.0
    cpu_s_per_audio_s: float = 0.0
