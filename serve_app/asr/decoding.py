"""A window's text in one language: the search, its retries, and what is done against a prompt's echo.

Lone words are read again in the full window where the short one was not sure of them. A text that may be an
echo of its prompt is kept only where the audio carries it (`prompted`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from serve_app.asr.engines.base import DecodeOptions, Engine, Hypothesis, Prompt, States
from serve_app.asr.fallback import GuardOptions, Settled, Spoken, settle
from serve_app.asr.features import MAX_FRAMES, log_mel
from serve_app.asr.guards import Retry
from serve_app.asr.keyterms import BUDGET, KeytermTrie, build_trie
from serve_app.asr.prompted import carries, gains_words, may_echo
from serve_app.asr.vocabulary import Vocabulary
from serve_app.asr.windows import Window, full_window
from serve_app.core.jobs import DecodeJob, Role
from serve_app.core.keyterms import parse_keyterms
from serve_app.models.footprint import MAX_STATES, MAX_TEXT_POSITIONS
from serve_app.models.languages.writing import LANGUAGES_WITHOUT_SPACES

SURE_LONE_WORD = -0.4
"""Mean log-probability of a token from which a short window's text of up to two seconds is taken as it is: of
150 lone words the choice was then right as often as with the full window alone, for both models."""

_MAX_TRIES = 64
"""Of lists of terms, kept from one interim to the next."""


class BatchKey(NamedTuple):
    """What a batch must have in common; the prompt's length only where the engine asks for it."""

    window: Window
    num_prompt_tokens: int
    beam_size: int
    temperature: float
    attention: bool


class Item(NamedTuple):
    """One checked job on its way through a batch. `own_states`: how many hold its audio; `is_short`: it is as
    long as a lone word, whose unlikely texts are searched for again in the full window. `lifts`: the search
    lifts the hotwords."""

    job: DecodeJob
    previous: list[int]
    forced: list[int]
    own_states: int
    is_short: bool = False
    draft: tuple[int, ...] = ()
    lifts: bool = False


class WindowDecoder:
    """Decodes batches of items whose windows are encoded. Thread-safe as far as its engine is."""

    def __init__(
        self,
        engine: Engine,
        vocabulary: Vocabulary,
        guards: GuardOptions,
        *,
        suppressed: tuple[int, ...],
        suppressed_first: tuple[int, ...],
    ) -> None:
        self._engine = engine
        self._num_mels = engine.dimensions.num_mels
        self._vocabulary = vocabulary
        self._guards = guards
        self._suppressed = suppressed
        self._suppressed_first = suppressed_first
        self._terms = lru_cache(_MAX_TRIES)(self._build_terms)

    def answers(
        self, key: BatchKey, states: States, items: Sequence[Item], languages: Sequence[str]
    ) -> tuple[list[Item], list[Hypothesis]]:
        """Each item's answer, and the item as it was asked in the end: without a prompt that was echoed.

        A lone word that is not sure of itself is read once more in the full window, which reads it better.
        """
        hypotheses = self._generate(states, items, languages, key)
        asked, hypotheses = self._without_echoes(key, states, items, languages, hypotheses)
        unsure = [
            row
            for row, item in enumerate(items)
            if item.is_short and hypotheses[row].avg_logprob < SURE_LONE_WORD
        ]
        if not unsure or key.window.num_frames == MAX_FRAMES:
            return asked, hypotheses
        again = [items[row] for row in unsure]
        mels = np.stack([log_mel(item.job.audio, MAX_FRAMES, self._num_mels) for item in again])
        window = key.window._replace(num_frames=MAX_FRAMES, num_states=MAX_STATES)
        full = self.answers(
            key._replace(window=window), self._engine.encode(mels), again, [languages[row] for row in unsure]
        )
        for row, item, hypothesis in zip(unsure, *full, strict=True):
            asked[row], hypotheses[row] = item, hypothesis
        return asked, hypotheses

    def _generate(
        self,
        states: States,
        items: Sequence[Item],
        languages: Sequence[str],
        key: BatchKey,
        max_new_tokens: int | None = None,
    ) -> list[Hypothesis]:
        """`max_new_tokens` None: as the window of the key allows."""
        prompts = [
            Prompt(
                self._start(item, language),
                item.own_states,
                tuple(item.forced),
                draft=item.draft,
                terms=self._terms(item.job.hotwords, _is_spaced(language)) if item.lifts else None,
            )
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
            alignment=any(item.job.word_timestamps for item in items),
        )
        return self._engine.generate(states, prompts, options)

    def _without_echoes(
        self,
        key: BatchKey,
        states: States,
        items: Sequence[Item],
        languages: Sequence[str],
        hypotheses: Sequence[Hypothesis],
    ) -> tuple[list[Item], list[Hypothesis]]:
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

    def _may_echo(self, item: Item, found: Hypothesis) -> bool:
        decode = self._vocabulary.decode
        return bool(item.previous) and may_echo(decode(found.ids), decode(item.previous), item.job.audio_s)

    def _scores(
        self, states: States, row: int, item: Item, language: str, answers: Sequence[Hypothesis]
    ) -> list[tuple[float, ...]]:
        """The probability of every token of each answer, as if there were no prompt."""
        aligned = self._engine.align(
            self._engine.take(states, [row] * len(answers)),
            self._vocabulary.start_sequence(language, item.job.task),
            [[token for token in answer.ids if token < self._vocabulary.end] for answer in answers],
            [item.own_states] * len(answers),
        )
        return [found.token_probs for found in aligned]

    def settle(
        self, key: BatchKey, spliced: States, row: int, item: Item, language: str, first: Hypothesis
    ) -> Settled:
        """The guards' word on one item. Interims are not tried again: a newer one comes anyway."""

        def again(retry: Retry) -> Hypothesis:
            way = key._replace(beam_size=retry.beam_size, temperature=retry.temperature)
            wanted = retry.full_window or item.is_short
            if not wanted or key.window.num_frames == MAX_FRAMES:
                return self._generate(self._engine.take(spliced, [row]), [item], [language], way)[0]
            window = full_window(len(item.job.audio), item.job.language)
            states = self._engine.encode(log_mel(item.job.audio, MAX_FRAMES, self._num_mels)[None])
            return self._generate(states, [item], [language], way, window.max_new_tokens)[0]

        spoken = Spoken(
            audio=item.job.audio,
            audio_s=item.job.audio_s,
            spaced=_is_spaced(language),
            decode=lambda hypothesis: self._vocabulary.decode(hypothesis.ids).strip(),
        )
        return settle(first, spoken, self._guards, None if item.job.role is Role.INTERIM else again)

    def _build_terms(self, hotwords: str, spaced: bool) -> KeytermTrie | None:
        vocabulary = self._vocabulary
        terms = parse_keyterms(hotwords)
        return build_trie(terms, vocabulary.encode_exactly, vocabulary.text_of, spaced=spaced, budget=BUDGET)

    def _start(self, item: Item, language: str) -> tuple[int, ...]:
        start = self._vocabulary.start_sequence(language, item.job.task)
        previous = [self._vocabulary.previous, *item.previous] if item.previous else []
        return (*previous, *start, self._vocabulary.no_timestamps)


def _is_spaced(language: str) -> bool:
    return language not in LANGUAGES_WITHOUT_SPACES
