"""Greedy search that checks a draft of the answer in one pass, and goes on behind the first difference.

A decoder costs little more for several tokens of one row than for one. It is given the draft, says what it
would have written behind each of its tokens, and as many as agree are the answer: the text is the one that
it has without a draft, in fewer calls (as far as an engine's numbers are the same for one token and several).
Behind a difference the search looks for its way back into the rest of the draft.

What the tokens attend to comes with the same calls: AlignAtt stops by it, and a text that ended knows where
its tokens lie without being read once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from serve_app.asr.engines.alignment import CausalAttention, align_tokens
from serve_app.asr.engines.base import Alignment, DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.search import IntArray, wants_attention
from serve_app.asr.features import FloatArray
from serve_app.models.footprint import MAX_TEXT_POSITIONS

MAX_GUESS_TOKENS = 32
"""Of a draft, checked in one call."""
REPLACEMENT_TOKENS = 4
"""Checked where the draft is not found again: perhaps a token was replaced by another."""
_LOOK_AHEAD_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of one row: the likeliest tokens `(num_guessed + 1,)` behind what it had and behind each guessed token,
    with log-probabilities after suppression.

    Where attention was asked for, `attention` `(num_heads, num_guessed + 1, num_states)` of each as in
    `Step`; where the alignment was, the log-probabilities of the same tokens among those under the end token,
    none of them suppressed.
    """

    ids: IntArray
    logprobs: FloatArray
    attention: FloatArray | None = None
    text_logprobs: FloatArray | None = None


class Opening(NamedTuple):
    """What comes of reading the prompts, as `Beginning` has it, and a guess behind each; and the forced
    tokens' log-probabilities as in `Predictions.text_logprobs`."""

    predictions: list[Predictions]
    no_speech_probs: FloatArray
    attention: Sequence[FloatArray] | None = None
    forced_logprobs: Sequence[FloatArray] | None = None


class DraftDecoder(Protocol):
    """One batch in an engine's decoder, as `StepDecoder`, several tokens a row and call."""

    def begin(self, guesses: Sequence[Sequence[int]]) -> Opening:
        """Read the prompts and a guess behind each (perhaps empty)."""

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> list[Predictions]:
        """Append a token and a guess to each row."""

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        """Keep these rows, in order, each with the first `num_guessed` tokens of its last guess."""


def uses_drafts(prompts: Sequence[Prompt], options: DecodeOptions) -> bool:
    """Whether there is a draft or an alignment to find, and no beams or sampling, which do without."""
    greedy = options.beam_size == 1 and options.temperature <= 0
    return greedy and (options.alignment or any(prompt.draft for prompt in prompts))


def needs_weights(prompts: Sequence[Prompt], options: DecodeOptions) -> bool:
    """Whether a `DraftDecoder` must give attention."""
    return options.alignment or wants_attention(prompts, options)


def search_drafted(
    decoder: DraftDecoder, prompts: Sequence[Prompt], options: DecodeOptions, *, start: int, end: int
) -> list[Hypothesis]:
    """One greedy answer per prompt, in order. `start` of transcript, `end`: those tokens' ids."""
    answers = [CheckedAnswer(prompt, options, start, end) for prompt in prompts]
    live = list(range(len(prompts)))
    guesses = [answer.first_guess() for answer in answers]
    predictions, no_speech_probs, attention, forced_logprobs = decoder.begin(guesses)
    if needs_weights(prompts, options):
        if attention is None:
            raise ValueError("the decoder gave no attention")
        for answer, of_prompt in zip(answers, attention, strict=True):
            answer.begin_attention(of_prompt)
    if forced_logprobs is not None:
        for answer, of_forced in zip(answers, forced_logprobs, strict=True):
            answer.text_logprobs.extend(of_forced.tolist())
    while True:
        num_agreed = [
            answers[item].follow(guess, found)
            for item, guess, found in zip(live, guesses, predictions, strict=True)
        ]
        rows = [row for row, item in enumerate(live) if answers[item].goes_on]
        live = [live[row] for row in rows]
        if not live:
            break
        decoder.keep(rows, [num_agreed[row] for row in rows])
        guesses = [answers[item].next_guess() for item in live]
        predictions = decoder.read([answers[item].ids[-1] for item in live], guesses)
    return [answer.hypothesis(float(no_speech_probs[item])) for item, answer in enumerate(answers)]


@dataclass(slots=True)
class CheckedAnswer:
    """One item's new tokens so far, and how far its draft has been used."""

    prompt: Prompt
    options: DecodeOptions
    start: int
    end: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text_logprobs: list[float] = field(default_factory=list)
    attended: list[int] = field(default_factory=list)
    """Both of forced tokens and new ones."""
    weights: list[FloatArray] = field(default_factory=list)
    """Of the prompt and of each prediction, `(num_heads, num_tokens, num_states)`."""
    attention: CausalAttention | None = None
    ended: bool = False
    stopped: bool = False
    """By its attention limit."""
    place: int = 0
    """The first token of the draft that was not compared yet."""
    num_agreed: int = 0
    """In the last call."""
    num_calls: int = 0

    @property
    def max_new_tokens(self) -> int:
        room = MAX_TEXT_POSITIONS - len(self.prompt.start) - len(self.prompt.forced)
        return min(self.options.max_new_tokens, room)

    @property
    def goes_on(self) -> bool:
        return not self.ended and not self.stopped and len(self.ids) < self.max_new_tokens

    def begin_attention(self, weights: FloatArray) -> None:
        """Take the attention of the prompt but its last token, `(num_heads, num_tokens, num_states)`."""
        if self.options.attention or self.prompt.attention_limit is not None:
            self.attention = CausalAttention([self.prompt.num_states])
            [attended] = self.attention.begin([weights])
            # The row of a token's predecessor predicts it.
            first = len(self.prompt.start) - 1
            self.attended.extend(attended[first : first + len(self.prompt.forced)])
        self.weights.append(weights)

    def _reaches_limit(self, weights: FloatArray | None) -> bool:
        """Whether the next token, which attends so, must not come."""
        if self.attention is None or weights is None:
            return False
        [state] = self.attention.step(weights[None])
        limit = self.prompt.attention_limit
        if limit is not None and state >= limit:
            return True
        self.attended.append(state)
        return False

    def follow(self, guess: Sequence[int], found: Predictions) -> int:
        """Take predictions up to the first that differs from the guess. How many of the guess agreed."""
        self.num_agreed = 0
        self.num_calls += 1
        for place, (token, logprob) in enumerate(zip(found.ids, found.logprobs, strict=True)):
            if token == self.end:
                self.logprobs.append(float(logprob))
                self.ended = True
                break
            if found.attention is not None and self._reaches_limit(found.attention[:, place]):
                self.stopped = True
                break
            self.logprobs.append(float(logprob))
            self.ids.append(int(token))
            if found.text_logprobs is not None:
                self.text_logprobs.append(float(found.text_logprobs[place]))
            if not self.goes_on or place >= len(guess) or guess[place] != token:
                break
            self.num_agreed += 1
        if self.options.alignment and found.attention is not None:
            self.weights.append(found.attention[:, : place + 1])
        self.place += self.num_agreed
        return self.num_agreed

    def first_guess(self) -> Sequence[int]:
        return self._guess(MAX_GUESS_TOKENS)

    def next_guess(self) -> Sequence[int]:
        """What the draft has behind the newest token, where it is found again; else, behind a stretch that
        agreed, what comes after the token that was another."""
        draft, newest = self.prompt.draft, self.ids[-1]
        before = self.ids[-2] if len(self.ids) > 1 else None
        # Nothing found so far: a window that has moved on begins anywhere in the draft.
        far = self.place + _LOOK_AHEAD_TOKENS if self.place else len(draft)
        for place in range(self.place, min(len(draft), far)):
            near = place <= self.place + 1
            if draft[place] == newest and (near or draft[place - 1] == before):
                self.place = place + 1
                return self._guess(MAX_GUESS_TOKENS)
        if not self.num_agreed:
            return ()
        self.place += 1
        return self._guess(REPLACEMENT_TOKENS)

    def _guess(self, max_tokens: int) -> Sequence[int]:
        # The call gives one token more than were guessed.
        room = self.max_new_tokens - len(self.ids) - 1
        return self.prompt.draft[self.place : self.place + min(max_tokens, room)]

    def hypothesis(self, no_speech_prob: float) -> Hypothesis:
        return Hypothesis(
            ids=(*self.prompt.forced, *self.ids),
            sum_logprob=sum(self.logprobs),
            num_scored=len(self.logprobs),
            no_speech_prob=no_speech_prob,
            ended=self.ended,
            num_calls=self.num_calls,
            attended=tuple(self.attended) if self.options.attention else (),
            alignment=self._alignment(),
        )

    def _alignment(self) -> Alignment | None:
        """None where the text did not end: nothing was read of what its last token attends to."""
        ids, num_own = (*self.prompt.forced, *self.ids), self.prompt.num_states
        if not self.options.alignment or not self.ended or any(token >= self.end for token in ids):
            return None
        if not ids or num_own < 1:
            return Alignment((), ())
        begin = self.prompt.start
        first = begin.index(self.start) if self.start in begin else 0
        weights = np.concatenate(self.weights, axis=1)[:, first:, :num_own]
        # Softmaxed over the audio's own states, as a text that is aligned afterwards.
        weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
        path = align_tokens(weights, len(begin) - first - 1, num_behind=0)
        return Alignment(path, tuple(np.exp(self.text_logprobs).tolist()))
