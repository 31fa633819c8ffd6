"""Whisper on CTranslate2: short windows with spliced silence, batches across sessions.

Pitfalls of the library that shape this file: one bad item fails its whole batch, so items are checked
first and retried singly; previous text must be equally long within a batch and padding it is not neutral;
unknown tokens silently become the end token, so only ids are handed over; time tokens come even after
`<|notimestamps|>` unless suppressed; `align` takes one start sequence for a whole batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import ctranslate2
import numpy as np
import structlog

from serve_app.asr.devices import choose_compute_type, choose_device
from serve_app.asr.engine import EngineInfo
from serve_app.asr.features import FRAMES_PER_S, MAX_FRAMES, FloatArray, log_mel, num_frames_of
from serve_app.asr.folder import open_model_folder
from serve_app.asr.jobs import (
    SAMPLE_RATE_HZ,
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    DecodeTiming,
    Role,
    Task,
    Transcript,
)
from serve_app.asr.silence import is_silent, reads_as_silence
from serve_app.asr.validation import complaint
from serve_app.asr.vocabulary import MAX_PROMPT_TOKENS, Vocabulary
from serve_app.asr.windows import (
    FRAMES_PER_STATE,
    MAX_STATES,
    Window,
    WindowPolicy,
    full_window,
    plan_window,
)
from serve_app.asr.words import group_tokens, time_words
from serve_app.errors import ModelUnavailable

_MAX_POSITIONS = 448
_MODEL_ERRORS = (RuntimeError, ValueError, MemoryError)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How one engine is loaded and how it cuts its windows.

    `languages` None: all that the vocabulary has. `prompt_lengths`: previous text is cut to the longest of
    these token counts that it fills, so that batches form; empty: not cut. Detection of the language
    encodes at least `detect_floor_s`.
    """

    device: str = "auto"
    compute_type: str = "auto"
    num_workers: int = 1
    threads_per_worker: int = 1
    windows: Mapping[Role, WindowPolicy] = field(default_factory=dict)
    languages: frozenset[str] | None = None
    prompt_lengths: tuple[int, ...] = ()
    detect_floor_s: float = 6.0


class _BatchKey(NamedTuple):
    window: Window
    num_prompt_tokens: int
    beam_size: int


class _Item(NamedTuple):
    """One checked job on its way through a batch. `own_states`: how many hold its audio."""

    job: DecodeJob
    prompt: list[int]
    own_states: int


class _Decoded(NamedTuple):
    ids: list[int]
    avg_logprob: float
    no_speech_prob: float


class CTranslate2Engine:
    """One Whisper model. Thread-safe; `num_workers` threads may call it at once without waiting."""

    def __init__(self, name: str, path: Path, options: EngineOptions | None = None) -> None:
        """Load the model. Raises `ModelUnavailable` for a folder, device or type that cannot be used."""
        self._options = options = options or EngineOptions()
        folder = open_model_folder(path)
        device = choose_device(options.device)
        compute_type = choose_compute_type(options.compute_type, device)
        try:
            self._model = ctranslate2.models.Whisper(
                str(path),
                device=device,
                compute_type=compute_type,
                inter_threads=options.num_workers,
                intra_threads=options.threads_per_worker,
            )
        except _MODEL_ERRORS as error:
            raise ModelUnavailable(f"the model {name} cannot be loaded: {error}") from error
        self._to_cpu = device != "cpu"
        self._num_mels = int(self._model.n_mels)
        self._vocabulary = Vocabulary(folder.tokenizer_path, multilingual=bool(self._model.is_multilingual))
        spoken = frozenset(self._vocabulary.languages) or frozenset({"en"})
        self._info = EngineInfo(
            model=name,
            engine="ctranslate2",
            device=device,
            compute_type=compute_type,
            multilingual=self._vocabulary.multilingual,
            languages=spoken & options.languages if options.languages else spoken,
            path=str(path),
        )
        self._suppressed = [-1, *self._vocabulary.timestamp_ids(folder.vocabulary_size)]
        self._silence = self._encode(log_mel(np.zeros(0, np.int16), MAX_FRAMES, self._num_mels)[None])

    @property
    def info(self) -> EngineInfo:
        return self._info

    def batch_key(self, job: DecodeJob) -> _BatchKey:
        """Window, length of the previous text and beam: what a batch must have in common."""
        return _BatchKey(self._window(job), len(self._prompt(job)), job.beam_size)

    def warm_up(self) -> None:
        """Decode and align a second of noise."""
        noise = np.random.default_rng(0).normal(0, 3000, SAMPLE_RATE_HZ).astype(np.int16)
        for role in (Role.INTERIM, Role.FINAL):
            self.transcribe([DecodeJob(0, role, noise, word_timestamps=True)])

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        """One answer per job, in order; jobs of equal `batch_key` are decoded together."""
        results: dict[int, DecodeResult] = {}
        groups: dict[_BatchKey, list[int]] = defaultdict(list)
        for index, job in enumerate(jobs):
            problem = complaint(job, self._info)
            if problem is not None:
                results[index] = DecodeFailure(job.job_id, problem)
            elif is_silent(job.audio):
                results[index] = self._nothing(job)
            else:
                groups[self.batch_key(job)].append(index)
        for key, indices in groups.items():
            answers = self._isolated(key, [self._item(jobs[i]) for i in indices])
            results.update(zip(indices, answers, strict=True))
        return [results[index] for index in range(len(jobs))]

    # -- one batch -------------------------------------------------------------------------------

    def _isolated(self, key: _BatchKey, items: list[_Item]) -> list[DecodeResult]:
        """Decode a batch; where it fails, each of its items alone."""
        try:
            return self._decode(key, items)
        except _MODEL_ERRORS as error:
            if len(items) > 1:
                _log.warning("batch failed, its items are retried singly", num_items=len(items))
                return [answer for item in items for answer in self._isolated(key, [item])]
            _log.error("decode failed", model=self._info.model, error=type(error).__name__)
            message = f"the model {self._info.model} failed on this audio"
            return [DecodeFailure(items[0].job.job_id, message, retryable=True)]

    def _decode(self, key: _BatchKey, items: list[_Item]) -> list[DecodeResult]:
        started = perf_counter()
        mels = np.stack([log_mel(item.job.audio, key.window.num_frames, self._num_mels) for item in items])
        prepared = perf_counter()
        states = self._encode(mels)
        spliced = self._splice(states, key.window.num_states)
        languages = self._languages(items, states)
        decoded = self._generate(spliced, items, languages, key.window.max_new_tokens, key.beam_size)
        self._redo_runaways(key, items, languages, decoded)
        inferred = perf_counter()
        transcripts = [
            self._transcript(item, *language, what)
            for item, language, what in zip(items, languages, decoded, strict=True)
        ]
        self._add_words(states, items, transcripts, decoded)
        timing = DecodeTiming(
            preprocess_ms=(prepared - started) * 1000,
            inference_ms=(inferred - prepared) * 1000,
            postprocess_ms=(perf_counter() - inferred) * 1000,
            batch_size=len(items),
        )
        return [replace(transcript, timing=timing) for transcript in transcripts]

    def _encode(self, mels: FloatArray) -> FloatArray:
        """Encoder states `(batch, num_frames / 2, width)` of features `(batch, num_mels, num_frames)`."""
        output = self._model.encode(_storage(mels), to_cpu=self._to_cpu)
        states: FloatArray = np.asarray(output)
        return states

    def _splice(self, states: FloatArray, num_states: int) -> FloatArray:
        """The same with states of silence behind, `num_states` in all."""
        own = states.shape[1]
        if own >= num_states:
            return states
        spliced = np.empty((len(states), num_states, states.shape[2]), dtype=states.dtype)
        spliced[:, :own] = states
        spliced[:, own:] = self._silence[:, own:num_states]
        return spliced

    def _generate(
        self,
        states: FloatArray,
        items: Sequence[_Item],
        languages: Sequence[tuple[str, float]],
        max_new_tokens: int,
        beam_size: int,
    ) -> list[_Decoded]:
        prompts = [
            self._prompt_ids(item, language) for item, (language, _) in zip(items, languages, strict=True)
        ]
        num_prompt = len(prompts[0])
        max_new_tokens = min(max_new_tokens, _MAX_POSITIONS - num_prompt)
        answers = self._model.generate(
            _storage(states),
            prompts,
            beam_size=beam_size,
            # CTranslate2 allows min(max_length / 2, max_length - num_prompt + 1) new tokens.
            max_length=min(_MAX_POSITIONS, max(2 * max_new_tokens, max_new_tokens + num_prompt - 1)),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
        )
        return [_decoded(answer) for answer in answers]

    def _redo_runaways(
        self,
        key: _BatchKey,
        items: Sequence[_Item],
        languages: Sequence[tuple[str, float]],
        decoded: list[_Decoded],
    ) -> None:
        """Who ran into the token limit ran on into repeats: once more, with all 30 s encoded."""
        if key.window.num_frames == MAX_FRAMES:
            return
        for i, item in enumerate(items):
            if len(decoded[i].ids) < key.window.max_new_tokens - 1:
                continue
            window = full_window(len(item.job.audio), item.job.language)
            states = self._encode(log_mel(item.job.audio, MAX_FRAMES, self._num_mels)[None])
            again = self._generate(states, [item], [languages[i]], window.max_new_tokens, key.beam_size)
            decoded[i] = again[0]

    # -- languages -------------------------------------------------------------------------------

    def _languages(self, items: Sequence[_Item], states: FloatArray) -> list[tuple[str, float]]:
        """Each item's language and its probability: 1 where the job names it."""
        languages = [(item.job.language or "en", 1.0) for item in items]
        unknown = [i for i, item in enumerate(items) if item.job.language is None]
        if not unknown or not self._vocabulary.multilingual:
            return languages
        wanted_frames = round(self._options.detect_floor_s * FRAMES_PER_S)
        if states.shape[1] * FRAMES_PER_STATE < wanted_frames:
            mels = [log_mel(items[i].job.audio, wanted_frames, self._num_mels) for i in unknown]
            states = self._encode(np.stack(mels))
        else:
            states = states[unknown]
        for i, found in zip(unknown, self._model.detect_language(_storage(states)), strict=True):
            languages[i] = self._likeliest(found)
        return languages

    def _likeliest(self, found: Sequence[tuple[str, float]]) -> tuple[str, float]:
        for token, probability in found:
            language = self._vocabulary.language_of(token)
            if language in self._info.languages:
                return language, float(probability)
        return "en", 0.0

    # -- words -----------------------------------------------------------------------------------

    def _add_words(
        self,
        states: FloatArray,
        items: Sequence[_Item],
        transcripts: list[Transcript],
        decoded: Sequence[_Decoded],
    ) -> None:
        groups: dict[tuple[str, Task], list[int]] = defaultdict(list)
        for i, (item, transcript) in enumerate(zip(items, transcripts, strict=True)):
            if item.job.word_timestamps and transcript.text:
                groups[transcript.language, item.job.task].append(i)
        for (language, task), rows in groups.items():
            texts = [[token for token in decoded[i].ids if token < self._vocabulary.end] for i in rows]
            aligned = self._model.align(
                _storage(states if len(rows) == len(states) else states[rows]),
                self._vocabulary.start_sequence(language, task),
                texts,
                [items[i].own_states * FRAMES_PER_STATE for i in rows],
            )
            for i, ids, path in zip(rows, texts, aligned, strict=True):
                groups_of_tokens = group_tokens(ids, self._vocabulary.decode, language)
                words = time_words(
                    groups_of_tokens, path.alignments, path.text_token_probs, items[i].job.audio_s
                )
                transcripts[i] = replace(transcripts[i], words=words)

    # -- one job ---------------------------------------------------------------------------------

    def _window(self, job: DecodeJob) -> Window:
        policy = self._options.windows.get(job.role, WindowPolicy())
        return plan_window(len(job.audio), job.language, policy)

    def _item(self, job: DecodeJob) -> _Item:
        own_states = max(1, num_frames_of(len(job.audio)) // FRAMES_PER_STATE)
        return _Item(job, self._prompt(job), min(MAX_STATES, own_states))

    def _prompt(self, job: DecodeJob) -> list[int]:
        ids = self._vocabulary.encode_prompt(job.prompt)
        fitting = [length for length in self._options.prompt_lengths if length <= len(ids)]
        return ids[-max(fitting) :] if fitting else ids[-MAX_PROMPT_TOKENS:]

    def _prompt_ids(self, item: _Item, language: str) -> list[int]:
        start = self._vocabulary.start_sequence(language, item.job.task)
        previous = [self._vocabulary.previous, *item.prompt] if item.prompt else []
        return [*previous, *start, self._vocabulary.no_timestamps]

    def _transcript(
        self, item: _Item, language: str, language_probability: float, decoded: _Decoded
    ) -> Transcript:
        quiet = reads_as_silence(decoded.no_speech_prob, decoded.avg_logprob)
        return Transcript(
            job_id=item.job.job_id,
            text="" if quiet else self._vocabulary.decode(decoded.ids).strip(),
            language=language,
            language_probability=language_probability,
            avg_logprob=decoded.avg_logprob,
            no_speech_prob=decoded.no_speech_prob,
            model=self._info.model,
        )

    def _nothing(self, job: DecodeJob) -> Transcript:
        known = job.language is not None or not self._info.multilingual
        return Transcript(
            job_id=job.job_id,
            text="",
            language=job.language or "en",
            language_probability=1.0 if known else 0.0,
            avg_logprob=0.0,
            no_speech_prob=1.0,
            model=self._info.model,
        )


def _storage(array: FloatArray) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _decoded(answer: Any) -> _Decoded:
    """CTranslate2 divides by the tokens without the end token, whose log-probability it did add."""
    ids: list[int] = answer.sequences_ids[0]
    total_logprob = answer.scores[0] * max(1, len(ids))
    return _Decoded(ids, total_logprob / (len(ids) + 1), float(answer.no_speech_prob))
