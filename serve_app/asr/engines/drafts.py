"""Greedy search that checks a draft of the answer in one pass, and goes on behind the first difference.

A decoder costs little more for several tokens of one row than for one. It is given the draft, says what it
would have written behind each of its tokens, and as many as agree are the answer: the text is the one that
it has without a draft, in fewer calls (as far as an engine's numbers are the same for one token and several).
Behind a difference the search looks for its way back into the rest of the draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.search import IntArray, wants_attention
from serve_app.asr.features import FloatArray
from serve_app.models.footprint import MAX_TEXT_POSITIONS

MAX_GUESS_TOKENS = 32
"""Of a draft, checked in one call."""
_REPLACEMENT_TOKENS = 4
"""Checked where the draft is not found again: perhaps a token was replaced by another."""
_LOOK_AHEAD_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of one row: the likeliest tokens `(num_guessed + 1,)` behind what it had and behind each guessed token,
    with log-probabilities after suppression."""

    ids: IntArray
    logprobs: FloatArray


class DraftDecoder(Protocol):
    """One batch in an engine's decoder, as `StepDecoder`, several tokens a row and call."""

    def begin(self, guesses: Sequence[Sequence[int]]) -> tuple[list[Predictions], FloatArray]:
        """Read the prompts and a guess behind each (perhaps empty); also the no-speech probabilities."""

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> list[Predictions]:
        """Append a token and a guess to each row."""

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        """Keep these rows, in order, and of the last guess of each so many tokens."""


def uses_drafts(prompts: Sequence[Prompt], options: DecodeOptions) -> bool:
    """Whether there is a draft, and no beams, sampling or attention, which do without."""
    greedy = options.beam_size == 1 and options.temperature <= 0
    return greedy and not wants_attention(prompts, options) and any(prompt.draft for prompt in prompts)


def search_drafted(
    decoder: DraftDecoder, prompts: Sequence[Prompt], options: DecodeOptions, *, end: int
) -> list[Hypothesis]:
    """One greedy answer per prompt, in order. `end`: the end token's id."""
    answers = [_Answer(prompt, options, end) for prompt in prompts]
    live = list(range(len(prompts)))
    guesses = [answer.first_guess() for answer in answers]
    predictions, no_speech_probs = decoder.begin(guesses)
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
class _Answer:
    """One item's new tokens so far, and how far its draft has been used."""

    prompt: Prompt
    options: DecodeOptions
    end: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False
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
        return not self.ended and len(self.ids) < self.max_new_tokens

    def follow(self, guess: Sequence[int], found: Predictions) -> int:
        """Take predictions up to the first that differs from the guess. How many of the guess agreed."""
        self.num_agreed = 0
        self.num_calls += 1
        for place, (token, logprob) in enumerate(zip(found.ids, found.logprobs, strict=True)):
            self.logprobs.append(float(logprob))
            if token == self.end:
                self.ended = True
                break
            self.ids.append(int(token))
            if not self.goes_on or place >= len(guess) or guess[place] != token:
                break
            self.num_agreed += 1
        self.place += self.num_agreed
        return self.num_agreed

    def first_guess(self) -> Sequence[int]:
        return self._guess(MAX_GUESS_TOKENS)

    def next_guess(self) -> Sequence[int]:
        """What the draft has behind the newest token, where it is found again; else, behind a stretch that
        agreed, what comes after the token that was another."""
        draft, newest = self.prompt.draft, self.ids[-1]
        before = self.ids[-2] if len(self.ids) > 1 else None
        for place in range(self.place, min(len(draft), self.place + _LOOK_AHEAD_TOKENS)):
            near = place <= self.place + 1
            if draft[place] == newest and (near or draft[place - 1] == before):
                self.place = place + 1
                return self._guess(MAX_GUESS_TOKENS)
        if not self.num_agreed:
            return ()
        self.place += 1
        return self._guess(_REPLACEMENT_TOKENS)

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
        )
