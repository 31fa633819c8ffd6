"""Jobs to text with one Whisper model on any engine: windows, prompts, languages, words.

Lengths, prompts and forced text are a function of the job alone, so that a text never depends on what
it was batched with. Items are checked before a batch and retried singly after a failed one, since one bad
item fails all of it. A batch that runs out of memory is halved, and batches stay small for a while.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np
import structlog

from serve_app.asr.attention import end_at_word, num_safe_tokens
from serve_app.asr.confidence import MAX_DOUBTED, segment_confidence
from serve_app.asr.decoding import BatchKey, Item, WindowDecoder
from serve_app.asr.engines.base import Alignment, Engine, Hypothesis, States
from serve_app.asr.failed_batches import MODEL_ERRORS, BatchCap, decode_isolated, try_largest_batch
from serve_app.asr.fallback import (
    GuardOptions,
    Settled,
)
from serve_app.asr.features import FRAMES_PER_S, MAX_FRAMES, log_mel, num_frames_of
from serve_app.asr.folder import ModelFolder
from serve_app.asr.heard import is_silent, room_tone, where_heard
from serve_app.asr.language_choice import (
    MAX_CANDIDATES,
    CandidateText,
    LanguageGuess,
    choose_text,
    guess_language,
    known_language,
)
from serve_app.asr.ports import TranscriberInfo, complaint
from serve_app.asr.prompted import MAX_ECHO_S
from serve_app.asr.repetition import compression_ratio
from serve_app.asr.vocabulary import MAX_PROMPT_TOKENS, Vocabulary
from serve_app.asr.windows import (
    FRAMES_PER_STATE,
    MAX_AUDIO_S,
    Window,
    WindowPolicy,
    full_window,
    plan_window,
)
from serve_app.asr.words import group_tokens, time_words
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    DecodeTiming,
    Role,
    Task,
    Transcript,
)
from serve_app.core.keyterms import KeytermMethod
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.models.footprint import MAX_STATES
from serve_app.models.languages.writing import LANGUAGES_WITHOUT_SPACES

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TranscriberOptions:
    """How a model's windows are cut and its batches formed.

    `languages` None: all that the vocabulary has. `keyterms`: what is done with hotwords, where the engine
    can. `prompt_lengths`: where an engine wants equally long prompts, previous text is cut to the longest of
    these token counts that it fills, so that batches form; empty: not cut. Detection of the language encodes
    at least `detect_floor_s`. `max_batch`: the largest batch that will come; on a card it is tried at the
    start.
    """

    windows: Mapping[Role, WindowPolicy] = field(default_factory=dict)
    languages: frozenset[str] | None = None
    keyterms: KeytermMethod = KeytermMethod.LIFT
    translates: bool = True
    prompt_lengths: tuple[int, ...] = ()
    detect_floor_s: float = 6.0
    guards: GuardOptions = GuardOptions()
    max_batch: int = 1


class _Text(NamedTuple):
    """What an item was decoded to in one language."""

    language: str
    probability: float
    settled: Settled


class WhisperTranscriber:
    """One Whisper model. Thread-safe as far as its engine is."""

    def __init__(
        self, name: str, engine: Engine, folder: ModelFolder, options: TranscriberOptions | None = None
    ) -> None:
        """Raises `ModelUnavailable` where the folder's tokenizer is no Whisper tokenizer."""
        self._engine = engine
        self.cap = BatchCap()
        self._options = options = options or TranscriberOptions()
        can, shape = engine.capabilities, engine.dimensions
        self._num_mels = shape.num_mels
        self._vocabulary = Vocabulary(folder.tokenizer_path, multilingual=shape.multilingual)
        spoken = frozenset(self._vocabulary.languages) or frozenset({"en"})
        self._info = TranscriberInfo(
            model=name,
            engine=can.engine,
            device=can.device,
            compute_type=can.compute_type,
            multilingual=self._vocabulary.multilingual,
            languages=spoken & options.languages if options.languages else spoken,
            path=str(folder.path),
            attention=can.attention,
            translates=options.translates,
        )
        self._decoder = WindowDecoder(
            engine,
            self._vocabulary,
            options.guards,
            suppressed=(*folder.suppressed, *self._vocabulary.timestamp_ids(shape.vocabulary_size)),
            suppressed_first=folder.suppressed_first,
        )
        try:
            self._silence = engine.encode(log_mel(room_tone(MAX_AUDIO_S), MAX_FRAMES, self._num_mels)[None])
        except MODEL_ERRORS as error:
            raise ModelUnavailable(f"the model {name} cannot encode: {error}") from error

    @property
    def info(self) -> TranscriberInfo:
        return self._info

    def batch_key(self, job: DecodeJob) -> BatchKey:
        num_previous = 0 if self._engine.capabilities.mixed_prompts else len(self._previous(job))
        return BatchKey(
            self._window(job), num_previous, job.beam_size, job.temperature, job.attention is not None
        )

    def warm_up(self) -> None:
        """Decode and align a second of noise; on a card, also the largest batch. Raises `ModelUnavailable`
        where the card's memory does not hold a batch of one."""
        noise = np.random.default_rng(0).normal(0, 3000, SAMPLE_RATE_HZ).astype(np.int16)
        for role in (Role.INTERIM, Role.FINAL):
            self.transcribe([DecodeJob(0, role, noise, word_timestamps=True)])
        if self._engine.capabilities.device == "cuda":
            try_largest_batch(self, self._options.max_batch)

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        """One answer per job, in order; jobs of equal `batch_key` are decoded together."""
        results: dict[int, DecodeResult] = {}
        groups: dict[BatchKey, list[int]] = defaultdict(list)
        for index, job in enumerate(jobs):
            problem = complaint(job, self._info)
            if problem is not None:
                results[index] = DecodeFailure(job.job_id, problem)
            elif is_silent(job.audio):
                results[index] = self._nothing(job)
            else:
                groups[self.batch_key(job)].append(index)
        for key, indices in groups.items():
            items = [self._item(jobs[i]) for i in indices]
            answers = decode_isolated(items, partial(self._decode, key), self._failure, self.cap)
            results.update(zip(indices, answers, strict=True))
        return [results[index] for index in range(len(jobs))]

    # -- one batch -------------------------------------------------------------------------------

    def _failure(self, item: Item, ran_out: bool) -> DecodeFailure:
        """What is answered for an item that fails alone; for want of memory it would fail again."""
        what = "ran out of memory" if ran_out else "failed"
        message = f"the model {self._info.model} {what} on this audio"
        return DecodeFailure(item.job.job_id, message, retryable=not ran_out)

    def _decode(self, key: BatchKey, items: Sequence[Item]) -> list[DecodeResult]:
        started = perf_counter()
        mels = np.stack([log_mel(item.job.audio, key.window.num_frames, self._num_mels) for item in items])
        prepared = perf_counter()
        states = self._engine.encode(mels)
        spliced = self._engine.splice(states, self._silence, key.window.num_states)
        chosen = self._texts(key, spliced, items, self._guesses(items, states))
        inferred = perf_counter()
        transcripts = [
            self._transcript(item, text) if text else self._undecided(item)
            for item, text in zip(items, chosen, strict=True)
        ]
        self._add_words(states, items, transcripts, chosen)
        timing = DecodeTiming(
            preprocess_ms=(prepared - started) * 1000,
            inference_ms=(inferred - prepared) * 1000,
            postprocess_ms=(perf_counter() - inferred) * 1000,
            batch_size=len(items),
        )
        return [replace(transcript, timing=timing) for transcript in transcripts]

    def _texts(
        self, key: BatchKey, spliced: States, items: Sequence[Item], guesses: Sequence[LanguageGuess]
    ) -> list[_Text | None]:
        """Each item's text; the likelier one where two languages come into question, None where an interim
        does not know its language yet."""
        texts: list[list[_Text]] = [[] for _ in items]
        for place in range(MAX_CANDIDATES):
            rows = [
                row
                for row, (item, guess) in enumerate(zip(items, guesses, strict=True))
                if place < len(guess.candidates) and _may_decode(item.job, guess)
            ]
            if not rows:
                continue
            asked = [items[row] for row in rows]
            candidates = [guesses[row].candidates[place] for row in rows]
            languages = [code for code, _ in candidates]
            states = spliced if len(rows) == len(items) else self._engine.take(spliced, rows)
            asked, hypotheses = self._decoder.answers(key, states, asked, languages)
            for at, (row, (code, probability)) in enumerate(zip(rows, candidates, strict=True)):
                settled = self._decoder.settle(key, states, at, asked[at], code, hypotheses[at])
                texts[row].append(_Text(code, probability, settled))
        return [_likeliest(candidates) for candidates in texts]

    # -- languages -------------------------------------------------------------------------------

    def _guesses(self, items: Sequence[Item], states: States) -> list[LanguageGuess]:
        """Each item's language, or those that it may be."""
        guesses = [known_language(item.job.language or "en") for item in items]
        unknown = [i for i, item in enumerate(items) if item.job.language is None]
        if not unknown or not self._vocabulary.multilingual:
            return guesses
        wanted_frames = round(self._options.detect_floor_s * FRAMES_PER_S)
        if self._engine.num_states(states) * FRAMES_PER_STATE < wanted_frames:
            mels = [log_mel(items[i].job.audio, wanted_frames, self._num_mels) for i in unknown]
            states = self._engine.encode(np.stack(mels))
        else:
            states = self._engine.take(states, unknown)
        known = [code for code in self._vocabulary.languages if code in self._info.languages]
        found = self._engine.detect_language(states, self._vocabulary.languages)
        for i, probabilities in zip(unknown, found, strict=True):
            guesses[i] = guess_language(probabilities, known, items[i].job.hint)
        return guesses

    # -- words -----------------------------------------------------------------------------------

    def _add_words(
        self,
        states: States,
        items: Sequence[Item],
        transcripts: list[Transcript],
        chosen: Sequence[_Text | None],
    ) -> None:
        groups: dict[tuple[str, Task], list[int]] = defaultdict(list)
        for i, (item, transcript, text) in enumerate(zip(items, transcripts, chosen, strict=True)):
            if not item.job.word_timestamps or not transcript.text or text is None:
                continue
            known = text.settled.hypothesis.alignment
            if known is None or text.settled.looped:
                groups[transcript.language, item.job.task].append(i)
            else:
                transcripts[i] = self._with_words(transcript, self._text_ids(text.settled), known, item)
        for (language, task), rows in groups.items():
            texts = [self._text_ids(text.settled) for text in (chosen[i] for i in rows) if text]
            aligned = self._engine.align(
                states if len(rows) == len(items) else self._engine.take(states, rows),
                self._vocabulary.start_sequence(language, task),
                texts,
                [items[i].own_states for i in rows],
            )
            for i, ids, found in zip(rows, texts, aligned, strict=True):
                transcripts[i] = self._with_words(transcripts[i], ids, found, items[i])

    def _text_ids(self, settled: Settled) -> list[int]:
        """The tokens of the text; where a loop was cut out of it, those that spell what is left."""
        if settled.looped:
            return self._vocabulary.encode(settled.text)
        return [token for token in settled.hypothesis.ids if token < self._vocabulary.end]

    def _with_words(
        self, transcript: Transcript, ids: Sequence[int], found: Alignment, item: Item
    ) -> Transcript:
        """Behind forced text the search scored the new tokens alone: the alignment has them all."""
        job, token_probs = item.job, found.token_probs
        groups = group_tokens(ids, self._vocabulary.decode, transcript.language)
        words = where_heard(time_words(groups, found.path, token_probs, job.audio_s), job.audio)
        avg_logprob = transcript.avg_logprob
        if item.forced and token_probs:
            avg_logprob = float(np.log(np.maximum(token_probs, 1e-10)).mean())
        confidence = _confidence(avg_logprob, [word.probability for word in words], transcript.doubted)
        return replace(transcript, words=words, avg_logprob=avg_logprob, confidence=confidence)

    # -- one job ---------------------------------------------------------------------------------

    def _window(self, job: DecodeJob) -> Window:
        if not self._engine.capabilities.short_windows:
            return full_window(len(job.audio), job.language)
        return plan_window(len(job.audio), job.language, self._policy(job))

    def _policy(self, job: DecodeJob) -> WindowPolicy:
        return self._options.windows.get(job.role, WindowPolicy())

    def _item(self, job: DecodeJob) -> Item:
        own_states = max(1, num_frames_of(len(job.audio)) // FRAMES_PER_STATE)
        forced = self._vocabulary.encode(job.prefix)
        is_short = job.audio_s <= self._policy(job).short_s
        draft = tuple(self._vocabulary.encode(job.draft)) if self._engine.capabilities.drafts else ()
        lifts = self._lifts(job)
        return Item(job, self._previous(job), forced, min(MAX_STATES, own_states), is_short, draft, lifts)

    def _lifts(self, job: DecodeJob) -> bool:
        """Whether the search lifts the job's hotwords: beams, samples and attention do without."""
        greedy = job.beam_size == 1 and job.temperature <= 0 and job.attention is None
        wanted = self._options.keyterms is not KeytermMethod.PROMPT and self._engine.capabilities.terms
        return bool(job.hotwords) and greedy and wanted

    def _previous(self, job: DecodeJob) -> list[int]:
        """Hotwords, then previous text; its oldest part makes room where lengths must be equal."""
        if job.role is Role.INTERIM and job.audio_s <= MAX_ECHO_S:
            return []
        lifted = self._options.keyterms is KeytermMethod.LIFT and self._lifts(job)
        hot, previous = self._vocabulary.encode_prompt(job.prompt, "" if lifted else job.hotwords)
        length = len(hot) + len(previous)
        fitting = [fit for fit in self._options.prompt_lengths if len(hot) < fit <= length]
        if fitting and not self._engine.capabilities.mixed_prompts:
            previous = previous[-(max(fitting) - len(hot)) :]
        return [*hot, *previous][:MAX_PROMPT_TOKENS]

    def _transcript(self, item: Item, text: _Text) -> Transcript:
        settled = text.settled
        hypothesis, words = settled.hypothesis, settled.text
        if settled.doubted and item.job.role is Role.INTERIM:
            words = ""  # a newer one comes, and a final in any case
        return Transcript(
            job_id=item.job.job_id,
            text=words,
            language=text.language,
            language_probability=text.probability,
            avg_logprob=hypothesis.avg_logprob,
            no_speech_prob=hypothesis.no_speech_prob,
            model=self._info.model,
            confidence=_confidence(hypothesis.avg_logprob, (), settled.doubted) if words else 0.0,
            temperature=settled.temperature,
            compression_ratio=compression_ratio(words),
            rejected=settled.rejected,
            doubted=settled.doubted,
            looped=settled.looped,
            committed_chars=self._committed_chars(item, text.language, hypothesis) if words else 0,
        )

    def _undecided(self, item: Item) -> Transcript:
        """An interim whose language is not known yet."""
        return replace(self._nothing(item.job), language="", no_speech_prob=0.0)

    def _committed_chars(self, item: Item, language: str, hypothesis: Hypothesis) -> int:
        rule = item.job.attention
        if rule is None:
            return 0
        num_forced = len(item.forced)
        num_safe = num_safe_tokens(
            hypothesis.attended,
            num_forced=num_forced,
            num_states=item.own_states,
            rule=rule,
            ended=hypothesis.ended,
        )
        spaced = language not in LANGUAGES_WITHOUT_SPACES
        decode = self._vocabulary.decode
        whole = end_at_word(hypothesis.ids, num_safe, decode, num_forced=num_forced, spaced=spaced)
        return len(decode(hypothesis.ids[:whole]).strip())

    def _nothing(self, job: DecodeJob) -> Transcript:
        known = job.language is not None or not self._info.multilingual
        return Transcript(
            job_id=job.job_id,
            text=job.prefix,
            language=job.language or "en",
            language_probability=1.0 if known else 0.0,
            avg_logprob=0.0,
            no_speech_prob=1.0,
            model=self._info.model,
            committed_chars=len(job.prefix),
        )


def _may_decode(job: DecodeJob, guess: LanguageGuess) -> bool:
    """Interims wait until their language is known."""
    return job.role is not Role.INTERIM or guess.for_interim(job.audio_s, job.hint)


def _likeliest(texts: Sequence[_Text]) -> _Text | None:
    if len(texts) < 2:
        return texts[0] if texts else None
    best, probability = choose_text(
        [
            CandidateText(
                text.probability,
                text.settled.hypothesis.avg_logprob,
                has_text=bool(text.settled.text),
                doubted=bool(text.settled.doubted),
                looped=text.settled.looped,
            )
            for text in texts
        ]
    )
    return texts[best]._replace(probability=probability)


def _confidence(avg_logprob: float, word_probs: Sequence[float], doubted: str) -> float:
    confidence = segment_confidence(avg_logprob, word_probs)
    return min(confidence, MAX_DOUBTED) if doubted else confidence
