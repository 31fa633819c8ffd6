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
from serve_app.asr.engines.base import MAX_TEXT_POSITIONS, DecodeOptions, Engine, Hypothesis, Prompt, States
from serve_app.asr.features import FRAMES_PER_S, MAX_FRAMES, log_mel, num_frames_of
from serve_app.asr.folder import ModelFolder
from serve_app.asr.guarded import GuardOptions, Settled, Spoken, settle
from serve_app.asr.guards import Retry
from serve_app.asr.heard import where_heard
from serve_app.asr.isolation import MODEL_ERRORS, decode_isolated
from serve_app.asr.jobs import (
    SAMPLE_RATE_HZ,
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    DecodeTiming,
    Role,
    Task,
    Transcript,
    Word,
)
from serve_app.asr.language_choice import (
    MAX_CANDIDATES,
    CandidateText,
    LanguageGuess,
    choose_text,
    guess_language,
    known_language,
)
from serve_app.asr.out_of_memory import BatchCap
from serve_app.asr.ports import TranscriberInfo
from serve_app.asr.prompted import MAX_ECHO_S, carries, gains_words, may_echo
from serve_app.asr.repetition import compression_ratio
from serve_app.asr.silence import is_silent, room_tone
from serve_app.asr.trial import try_largest_batch
from serve_app.asr.validation import complaint
from serve_app.asr.vocabulary import MAX_PROMPT_TOKENS, Vocabulary
from serve_app.asr.windows import (
    FRAMES_PER_STATE,
    MAX_AUDIO_S,
    MAX_STATES,
    Window,
    WindowPolicy,
    full_window,
    plan_window,
)
from serve_app.asr.words import LANGUAGES_WITHOUT_SPACES, group_tokens, time_words
from serve_app.errors import ModelUnavailable

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TranscriberOptions:
    """How a model's windows are cut and its batches formed.

    `languages` None: all that the vocabulary has. `prompt_lengths`: where an engine wants equally long
    prompts, previous text is cut to the longest of these token counts that it fills, so that batches form;
    empty: not cut. Detection of the language encodes at least `detect_floor_s`. `max_batch`: the largest
    batch that will come; on a card it is tried at the start.
    """

    windows: Mapping[Role, WindowPolicy] = field(default_factory=dict)
    languages: frozenset[str] | None = None
    translates: bool = True
    prompt_lengths: tuple[int, ...] = ()
    detect_floor_s: float = 6.0
    guards: GuardOptions = GuardOptions()
    max_batch: int = 1


SURE_LONE_WORD = -0.4
"""Mean log-probability of a token from which a short window's text of up to two seconds is taken as it is: of
150 lone words the choice was then right as often as with the full window alone, for both models."""


class BatchKey(NamedTuple):
    """What a batch must have in common; the prompt's length only where the engine asks for it."""

    window: Window
    num_prompt_tokens: int
    beam_size: int
    temperature: float
    attention: bool


class _Item(NamedTuple):
    """One checked job on its way through a batch. `own_states`: how many hold its audio."""

    job: DecodeJob
    previous: list[int]
    forced: list[int]
    own_states: int


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
        self._suppressed = (*folder.suppressed, *self._vocabulary.timestamp_ids(shape.vocabulary_size))
        self._suppressed_first = folder.suppressed_first
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

    def _failure(self, item: _Item, ran_out: bool) -> DecodeFailure:
        """What is answered for an item that fails alone; for want of memory it would fail again."""
        what = "ran out of memory" if ran_out else "failed"
        message = f"the model {self._info.model} {what} on this audio"
        return DecodeFailure(item.job.job_id, message, retryable=not ran_out)

    def _decode(self, key: BatchKey, items: Sequence[_Item]) -> list[DecodeResult]:
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
        self, key: BatchKey, spliced: States, items: Sequence[_Item], guesses: Sequence[LanguageGuess]
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
            asked, hypotheses = self._answers(key, states, asked, languages)
            for at, (row, (code, probability)) in enumerate(zip(rows, candidates, strict=True)):
                settled = self._settle(key, states, at, asked[at], code, hypotheses[at])
                texts[row].append(_Text(code, probability, settled))
        return [_likeliest(candidates) for candidates in texts]

    def _answers(
        self, key: BatchKey, states: States, items: Sequence[_Item], languages: Sequence[str]
    ) -> tuple[list[_Item], list[Hypothesis]]:
        """Each item's answer, and the item as it was asked in the end: without a prompt that was echoed.

        A lone word that is not sure of itself is read once more in the full window, which reads it better.
        """
        hypotheses = self._generate(states, items, languages, key)
        asked, hypotheses = self._without_echoes(key, states, items, languages, hypotheses)
        unsure = [
            row
            for row, item in enumerate(items)
            if self._is_short(item.job) and hypotheses[row].avg_logprob < SURE_LONE_WORD
        ]
        if not unsure or key.window.num_frames == MAX_FRAMES:
            return asked, hypotheses
        again = [items[row] for row in unsure]
        mels = np.stack([log_mel(item.job.audio, MAX_FRAMES, self._num_mels) for item in again])
        window = key.window._replace(num_frames=MAX_FRAMES, num_states=MAX_STATES)
        full = self._answers(
            key._replace(window=window), self._engine.encode(mels), again, [languages[row] for row in unsure]
        )
        for row, item, hypothesis in zip(unsure, *full, strict=True):
            asked[row], hypotheses[row] = item, hypothesis
        return asked, hypotheses

    def _generate(
        self,
        states: States,
        items: Sequence[_Item],
        languages: Sequence[str],
        key: BatchKey,
        max_new_tokens: int | None = None,
    ) -> list[Hypothesis]:
        """`max_new_tokens` None: as the window of the key allows."""
        prompts = [
            Prompt(self._start(item, language), item.own_states, tuple(item.forced))
            for item, language in zip(items, languages, strict=True)
        ]
        longest = max(len(prompt.start) + len(prompt.forced) for prompt in prompts)
        limit = key.window.max_new_tokens if max_new_tokens is None else max_new_tokens
        options = DecodeOptions(
            beam_size=min(key.beam_size, self._engine.capabilities.max_beam_size),
            max_new_tokens=min(limit, MAX_TEXT_POSITIONS - longest),
            temperature=key.temperature,
            suppressed=self._suppressed,
            suppressed_first=self._suppressed_first,
            attention=key.attention,
        )
        return self._engine.generate(states, prompts, options)

    def _without_echoes(
        self,
        key: BatchKey,
        states: States,
        items: Sequence[_Item],
        languages: Sequence[str],
        hypotheses: Sequence[Hypothesis],
    ) -> tuple[list[_Item], list[Hypothesis]]:
        """Items and answers; where an answer may be an echo of its prompt, what the audio carries of it.
        Such an item goes on without its prompt, so that no retry brings the echo back."""
        items, hypotheses = list(items), list(hypotheses)
        rows = [row for row, item in enumerate(items) if self._may_echo(item, hypotheses[row])]
        if not rows:
            return items, hypotheses
        prompts = {row: self._vocabulary.decode(items[row].previous) for row in rows}
        for row in rows:
            items[row] = items[row]._replace(previous=[])
        bare = self._generate(
            self._engine.take(states, rows),
            [items[row] for row in rows],
            [languages[row] for row in rows],
            key,
        )
        for row, other in zip(rows, bare, strict=True):
            told, bare_text = (self._vocabulary.decode(found.ids) for found in (hypotheses[row], other))
            if not gains_words(told, bare_text, prompts[row]) or not carries(
                *self._scores(states, row, items[row], languages[row], (hypotheses[row], other))
            ):
                hypotheses[row] = other
        return items, hypotheses

    def _may_echo(self, item: _Item, found: Hypothesis) -> bool:
        decode = self._vocabulary.decode
        return bool(item.previous) and may_echo(decode(found.ids), decode(item.previous), item.job.audio_s)

    def _scores(
        self, states: States, row: int, item: _Item, language: str, answers: Sequence[Hypothesis]
    ) -> list[tuple[float, ...]]:
        """The probability of every token of each answer, as if there were no prompt."""
        aligned = self._engine.align(
            self._engine.take(states, [row] * len(answers)),
            self._vocabulary.start_sequence(language, item.job.task),
            [[token for token in answer.ids if token < self._vocabulary.end] for answer in answers],
            [item.own_states] * len(answers),
        )
        return [found.token_probs for found in aligned]

    def _settle(
        self, key: BatchKey, spliced: States, row: int, item: _Item, language: str, first: Hypothesis
    ) -> Settled:
        """The guards' word on one item. Interims are not tried again: a newer one comes anyway."""

        def again(retry: Retry) -> Hypothesis:
            way = key._replace(beam_size=retry.beam_size, temperature=retry.temperature)
            wanted = retry.full_window or self._is_short(item.job)
            if not wanted or key.window.num_frames == MAX_FRAMES:
                return self._generate(self._engine.take(spliced, [row]), [item], [language], way)[0]
            window = full_window(len(item.job.audio), item.job.language)
            states = self._engine.encode(log_mel(item.job.audio, MAX_FRAMES, self._num_mels)[None])
            return self._generate(states, [item], [language], way, window.max_new_tokens)[0]

        spoken = Spoken(
            audio=item.job.audio,
            audio_s=item.job.audio_s,
            spaced=language not in LANGUAGES_WITHOUT_SPACES,
            decode=lambda hypothesis: self._vocabulary.decode(hypothesis.ids).strip(),
        )
        return settle(first, spoken, self._options.guards, None if item.job.role is Role.INTERIM else again)

    # -- languages -------------------------------------------------------------------------------

    def _guesses(self, items: Sequence[_Item], states: States) -> list[LanguageGuess]:
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
        items: Sequence[_Item],
        transcripts: list[Transcript],
        chosen: Sequence[_Text | None],
    ) -> None:
        groups: dict[tuple[str, Task], list[int]] = defaultdict(list)
        for i, (item, transcript) in enumerate(zip(items, transcripts, strict=True)):
            if item.job.word_timestamps and transcript.text:
                groups[transcript.language, item.job.task].append(i)
        for (language, task), rows in groups.items():
            texts = [self._text_ids(text.settled) for text in (chosen[i] for i in rows) if text]
            aligned = self._engine.align(
                states if len(rows) == len(items) else self._engine.take(states, rows),
                self._vocabulary.start_sequence(language, task),
                texts,
                [items[i].own_states for i in rows],
            )
            for i, ids, found in zip(rows, texts, aligned, strict=True):
                groups_of_tokens = group_tokens(ids, self._vocabulary.decode, language)
                job = items[i].job
                words = time_words(groups_of_tokens, found.path, found.token_probs, job.audio_s)
                words = where_heard(words, job.audio)
                transcripts[i] = self._with_words(transcripts[i], words, found.token_probs, items[i])

    def _text_ids(self, settled: Settled) -> list[int]:
        """The tokens of the text; where a loop was cut out of it, those that spell what is left."""
        if settled.looped:
            return self._vocabulary.encode(settled.text)
        return [token for token in settled.hypothesis.ids if token < self._vocabulary.end]

    def _with_words(
        self, transcript: Transcript, words: tuple[Word, ...], token_probs: Sequence[float], item: _Item
    ) -> Transcript:
        """Behind forced text the search scored the new tokens alone: the alignment has them all."""
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

    def _is_short(self, job: DecodeJob) -> bool:
        """A lone word, whose unlikely texts are searched for again in the full window."""
        return job.audio_s <= self._policy(job).short_s

    def _item(self, job: DecodeJob) -> _Item:
        own_states = max(1, num_frames_of(len(job.audio)) // FRAMES_PER_STATE)
        forced = self._vocabulary.encode(job.prefix)
        return _Item(job, self._previous(job), forced, min(MAX_STATES, own_states))

    def _previous(self, job: DecodeJob) -> list[int]:
        """Hotwords, then previous text; its oldest part makes room where lengths must be equal."""
        if job.role is Role.INTERIM and job.audio_s <= MAX_ECHO_S:
            return []
        hot, previous = self._vocabulary.encode_prompt(job.prompt, job.hotwords)
        length = len(hot) + len(previous)
        fitting = [fit for fit in self._options.prompt_lengths if len(hot) < fit <= length]
        if fitting and not self._engine.capabilities.mixed_prompts:
            previous = previous[-(max(fitting) - len(hot)) :]
        return [*hot, *previous][:MAX_PROMPT_TOKENS]

    def _start(self, item: _Item, language: str) -> tuple[int, ...]:
        start = self._vocabulary.start_sequence(language, item.job.task)
        previous = [self._vocabulary.previous, *item.previous] if item.previous else []
        return (*previous, *start, self._vocabulary.no_timestamps)

    def _transcript(self, item: _Item, text: _Text) -> Transcript:
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

    def _undecided(self, item: _Item) -> Transcript:
        """An interim whose language is not known yet."""
        return replace(self._nothing(item.job), language="", no_speech_prob=0.0)

    def _committed_chars(self, item: _Item, language: str, hypothesis: Hypothesis) -> int:
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
