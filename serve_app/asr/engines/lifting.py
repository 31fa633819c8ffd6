"""Greedy search with terms to expect: shallow fusion whose lifts are taken back where no term comes of them.

Each token is the likeliest, or one that goes on with a term, as long as the term's budget covers what its
tokens are less likely than the likeliest. Where the rest of the term does not follow, or the word goes on
behind it, the search goes back to the first token that was not the likeliest and writes the likeliest there:
what is no whole term leaves no trace. (With beams such scores are subtracted again; one answer has nothing
beside it to fall back on.) The text depends on the model and the terms alone; drafts and the rest of a begun
term are checked in one call, as in `drafts`, and only save calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.drafts import CheckedAnswer
from serve_app.asr.engines.search import Beginning, Step, StepDecoder, wants_attention
from serve_app.asr.features import FloatArray
from serve_app.asr.keyterms import KeytermTrie, Node

MAX_TAKEN_BACK = 16
"""Lifts of one answer, after which the likeliest tokens are taken."""
MAX_NO_SPEECH = 0.5
"""No terms where the model hears no speech: on a sound without words every text is alike."""
MIN_LOGPROB = -6.0
"""Of a token that is lifted."""


class TableDecoder(Protocol):
    """One batch in an engine's decoder, as `DraftDecoder`, which gives all log-probabilities `(num_guessed +
    1, vocabulary_size)` behind what a row had and behind each guessed token, after suppression."""

    def begin(self, guesses: Sequence[Sequence[int]]) -> tuple[Iterable[FloatArray], FloatArray]:
        """Read the prompts and a guess behind each; also the no-speech probabilities."""

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> Iterable[FloatArray]:
        """Append a token and a guess to each row."""

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        """Keep these rows, in order, each with the first `num_guessed` tokens of its last guess. Below 0 the
        guess goes, and that many tokens before it, but none of the prompt's."""


def uses_terms(prompts: Sequence[Prompt], options: DecodeOptions) -> bool:
    """Whether there are terms, and no beams, sampling or attention, which do without."""
    greedy = options.beam_size == 1 and options.temperature <= 0
    return greedy and not wants_attention(prompts, options) and any(prompt.terms for prompt in prompts)


def search_lifted(
    decoder: TableDecoder, prompts: Sequence[Prompt], options: DecodeOptions, *, start: int, end: int
) -> list[Hypothesis]:
    """One greedy answer per prompt, in order, without its alignment. `start` of transcript, `end`: those
    tokens' ids."""
    options = replace(options, alignment=False)
    answers = [_LiftedAnswer(prompt, options, start, end) for prompt in prompts]
    live = list(range(len(prompts)))
    guesses = [answer.first_guess() for answer in answers]
    tables, no_speech_probs = decoder.begin(guesses)
    for answer, prob in zip(answers, no_speech_probs, strict=True):
        answer.begin_terms(float(prob))
    while True:
        num_kept = [
            answers[item].take(guess, table) for item, guess, table in zip(live, guesses, tables, strict=True)
        ]
        rows = [row for row, item in enumerate(live) if answers[item].goes_on]
        live = [live[row] for row in rows]
        if not live:
            break
        decoder.keep(rows, [num_kept[row] for row in rows])
        guesses = [answers[item].guess() for item in live]
        tables = decoder.read([answers[item].ids[-1] for item in live], guesses)
    return [answer.hypothesis(float(no_speech_probs[item])) for item, answer in enumerate(answers)]


@dataclass(frozen=True, slots=True)
class _Lift:
    """The first token of a term that is not the likeliest: its index, what was known there, and how far the
    draft had been used."""

    index: int
    logprobs: FloatArray
    node: Node | None
    spent: float
    place: int


@dataclass(slots=True)
class _LiftedAnswer(CheckedAnswer):
    """One item's new tokens so far, and where in the terms they stand."""

    terms: KeytermTrie | None = None
    node: Node | None = None
    """Of the term that is being written."""
    lift: _Lift | None = None
    """Of that term; None: its tokens are the likeliest."""
    spent: float = 0.0
    num_taken_back: int = 0
    bare: set[int] = field(default_factory=set)
    """Indices of tokens at which a lift was taken back."""

    def begin_terms(self, no_speech_prob: float) -> None:
        """Find the place in the terms at which the forced text ends."""
        if no_speech_prob > MAX_NO_SPEECH or self.prompt.terms is None:
            return
        self.terms = terms = self.prompt.terms
        before = None
        for token in self.prompt.forced:
            children = self.node.children if self.node else {}
            self.node = children.get(token) or terms.start(before).children.get(token)
            before = token

    def take(self, guess: Sequence[int], table: FloatArray) -> int:
        """Take tokens up to the first that differs from the guess. How many tokens of the guess stay, less
        those before it that go."""
        num_given = len(self.ids)
        self.num_calls += 1
        self.num_agreed = 0
        for place, logprobs in enumerate(table[: len(guess) + 1]):
            num_before = len(self.ids)
            self._append(logprobs)
            while not self.goes_on and not self.ended and self._is_cut_off():
                self._go_back()
            if len(self.ids) != num_before + 1 or not self.goes_on:
                break
            if place >= len(guess) or guess[place] != self.ids[-1]:
                break
            self.num_agreed += 1
        self.place += self.num_agreed
        return len(self.ids) - 1 - num_given

    def guess(self) -> Sequence[int]:
        """The draft's next tokens, or the rest of a term that was begun."""
        guess = self.next_guess()
        if self.lift is None or self.node is None:
            return guess
        room = self.max_new_tokens - len(self.ids) - 1
        rest = tuple(self.node.chain())[: max(0, room)]
        return guess if guess[:1] == rest[:1] else rest

    def _append(self, logprobs: FloatArray) -> None:
        """Take the next token; or, where a lifted term does not go on with it, the likeliest where it
        began."""
        token = best = int(logprobs.argmax())
        if self.terms is not None:
            node = self.node
            is_whole = node is not None and self.spent <= node.whole
            if is_whole and not self.terms.goes_on_with_word(best):
                self.lift = None
            token = self._lifted(node, best, logprobs)
            if node is None or token not in node.children:
                if self.lift is not None:
                    self._go_back()
                    return
                node, self.spent = self.terms.start(self._newest()), 0.0
                token = self._lifted(node, best, logprobs)
            self.node = node.children.get(token)
        # A lifted token counts as the likeliest, lest the guards take every term for an unlikely text.
        self.logprobs.append(float(logprobs[best]))
        if token == self.end:
            self.ended = True
        else:
            self.ids.append(token)

    def _lifted(self, node: Node | None, best: int, logprobs: FloatArray) -> int:
        """The token that goes on from the node at the least price, or the best where that is too high."""
        if node is None or best in node.children or not len(node.ids):
            return best
        index = len(self.ids)
        if index in self.bare or self.num_taken_back >= MAX_TAKEN_BACK or best == self.end:
            return best
        of_terms = logprobs[node.ids]
        prices = logprobs[best] - of_terms
        left = np.where(of_terms >= MIN_LOGPROB, node.budgets - self.spent - prices, -1.0)
        chosen = int(left.argmax())
        if left[chosen] < 0:
            return best
        if self.lift is None:
            self.lift = _Lift(index, logprobs, self.node, self.spent, self.place + self.num_agreed)
        self.spent += float(prices[chosen])
        return int(node.ids[chosen])

    def _is_cut_off(self) -> bool:
        """Whether the limit of tokens cuts a lifted term off."""
        return self.lift is not None and (self.node is None or self.spent > self.node.whole)

    def _go_back(self) -> None:
        """Write the likeliest token where the lifted term began."""
        lift = self.lift
        assert lift is not None
        del self.ids[lift.index :], self.logprobs[lift.index :]
        self.bare = {index for index in self.bare if index < lift.index} | {lift.index}
        self.num_taken_back += 1
        self.node, self.lift, self.spent = lift.node, None, lift.spent
        self.place, self.num_agreed = lift.place, 0
        self._append(lift.logprobs)

    def _newest(self) -> int | None:
        if self.ids:
            return self.ids[-1]
        return self.prompt.forced[-1] if self.prompt.forced else None


class SteppedTables:
    """`TableDecoder` of an engine that reads a token a step. Guesses are not checked; where tokens go, the
    rows are read anew. `make`: a `StepDecoder` of these rows of the batch, with these prompts."""

    def __init__(
        self,
        make: Callable[[Sequence[int], Sequence[Prompt]], StepDecoder],
        prompts: Sequence[Prompt],
    ) -> None:
        self._make = make
        self._prompts = prompts
        self._items = list(range(len(prompts)))
        self._texts: list[list[int]] = [[] for _ in prompts]
        self._decoder: StepDecoder | None = None

    def begin(self, guesses: Sequence[Sequence[int]]) -> tuple[Iterable[FloatArray], FloatArray]:
        beginning = self._begin()
        return _tables(beginning.step), beginning.no_speech_probs

    def _begin(self) -> Beginning:
        prompts = [
            replace(self._prompts[item], forced=(*self._prompts[item].forced, *text))
            for item, text in zip(self._items, self._texts, strict=True)
        ]
        self._decoder = self._make(self._items, prompts)
        return self._decoder.begin(None)

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> Iterable[FloatArray]:
        for text, token in zip(self._texts, tokens, strict=True):
            text.append(token)
        if self._decoder is None:
            return _tables(self._begin().step)
        return _tables(self._decoder.step(np.asarray(tokens, dtype=np.int64), None))

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        if any(num_guessed):
            self._decoder = None
        elif len(rows) < len(self._items) and self._decoder is not None:
            self._decoder.select(np.asarray(rows, dtype=np.int64))
        self._items = [self._items[row] for row in rows]
        texts = [self._texts[row] for row in rows]
        self._texts = [text[: len(text) + kept] for text, kept in zip(texts, num_guessed, strict=True)]


def _tables(step: Step) -> Iterable[FloatArray]:
    if step.table is None:
        raise ValueError("the decoder gave no log-probabilities of all tokens")
    return step.table[:, None]
