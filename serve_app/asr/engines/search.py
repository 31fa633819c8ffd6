"""Token by token search for engines of our own: greedy, sampling and beams, the same for every device.

An engine gives a `StepDecoder`: one batch in its decoder, on its device. The search runs here, in numpy, and
sees per step only a few candidates a row. Finished items leave the batch, and an item's answer never
depends on the others. Beams are searched as CTranslate2 does (length penalty 1, patience 1), so that one
model gives one text wherever it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serve_app.asr.engines.alignment import CausalAttention
from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.features import FloatArray
from serve_app.models.footprint import MAX_TEXT_POSITIONS

IntArray = npt.NDArray[np.int64]

_DEAD_SCORE = -1e10


@dataclass(frozen=True, slots=True)
class Step:
    """What the decoder says of the next token, per row.

    `ids`, `logprobs` `(num_rows, num_candidates)`: the likeliest tokens, best first (or the one that was
    drawn), with log-probabilities after suppression and without temperature. `attention` `(num_rows,
    num_heads, num_states)`: weights of the alignment heads when predicting this token, softmaxed over all
    states and cut to the longest `num_states` of the prompts; None unless asked for. `table` `(num_rows,
    vocabulary_size)`: log-probabilities of all tokens, where a prompt has terms.
    """

    ids: IntArray
    logprobs: FloatArray
    attention: FloatArray | None = None
    table: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first step, one row a prompt, and what else came of reading the prompts.

    `no_speech_probs` `(num_rows,)` at the start of transcript, over the whole vocabulary, nothing suppressed.
    `attention`: per prompt `(num_heads, num_tokens, num_states)` of all of `start` and `forced` but the last
    token, whose row is the first step's; None unless asked for.
    """

    step: Step
    no_speech_probs: FloatArray
    attention: Sequence[FloatArray] | None = None


class StepDecoder(Protocol):
    """One batch in an engine's decoder. It was made with the states, the prompts and the options: it
    suppresses, gives `num_candidates(options)` candidates, and attention where `wants_attention`.

    `draws` float64 `(num_rows,)` in [0, 1) where the temperature is over 0: a row's token is the first whose
    cumulative probability (by id, after suppression and temperature) is over its draw. None: the best.
    """

    def begin(self, draws: npt.NDArray[np.float64] | None) -> Beginning:
        """Read the prompts. `suppressed_first` applies to rows without forced text. Called once."""

    def step(self, tokens: IntArray, draws: npt.NDArray[np.float64] | None) -> Step:
        """Append one token `(num_rows,)` to each row."""

    def select(self, rows: IntArray) -> None:
        """Keep these rows, in this order; some may come several times (beams) or not at all (finished).
        The rows of one prompt always lie together, and each prompt left has equally many."""


def num_candidates(options: DecodeOptions) -> int:
    """How many candidates a row needs. Beams: twice the beam, so that there are enough without end tokens."""
    return 2 * options.beam_size if _has_beams(options) else 1


def wants_attention(prompts: Sequence[Prompt], options: DecodeOptions) -> bool:
    return options.attention or any(prompt.attention_limit is not None for prompt in prompts)


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """Raise ValueError for a prompt that leaves no room for an answer."""
    for prompt in prompts:
        num_given = len(prompt.start) + len(prompt.forced)
        if not prompt.start or num_given >= MAX_TEXT_POSITIONS:
            raise ValueError(f"a prompt of {num_given} tokens: expected 1 to {MAX_TEXT_POSITIONS - 1}")


def search(
    decoder: StepDecoder, prompts: Sequence[Prompt], options: DecodeOptions, *, end: int
) -> list[Hypothesis]:
    """One answer per prompt, in order. `end`: the end token's id.

    With an attention limit, greedy answers and samples stop before the token that reaches it, and beams are
    cut there after the search.
    """
    check_prompts(prompts)
    if options.max_new_tokens < 1 or options.beam_size < 1:
        raise ValueError("max_new_tokens and beam_size must be at least 1")
    if not prompts:
        return []
    run = _BeamSearch if _has_beams(options) else _GreedySearch
    return run(decoder, prompts, options, end).run()


def pad_left(rows: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """Token ids, all rows as long as the longest, and how many on the left of each row are padding."""
    longest = max(len(row) for row in rows)
    num_padding = [longest - len(row) for row in rows]
    return [[0] * padding + list(row) for padding, row in zip(num_padding, rows, strict=True)], num_padding


def places_of(token: int, prompts: Sequence[Prompt], num_padding: Sequence[int]) -> list[int]:
    """Where the token stands in each padded prompt; at its beginning where it is not in it."""
    return [
        padding + (prompt.start.index(token) if token in prompt.start else 0)
        for padding, prompt in zip(num_padding, prompts, strict=True)
    ]


def drawn(
    logprobs: npt.NDArray[np.floating[Any]], draws: npt.NDArray[np.float64], temperature: float
) -> IntArray:
    """The tokens `(num_rows, 1)` that `draws` stand for, as `StepDecoder` defines it, from log-probabilities
    `(num_rows, vocabulary_size)`; in double precision, so that a draw means the same on every device."""
    scaled = logprobs.astype(np.float64) / temperature
    sums = np.exp(scaled - scaled.max(axis=1, keepdims=True)).cumsum(axis=1)
    chosen: IntArray = (sums > draws[:, None] * sums[:, -1:]).argmax(axis=1)
    return chosen[:, None]


def _has_beams(options: DecodeOptions) -> bool:
    return options.beam_size > 1 and options.temperature <= 0


# -- one answer --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    """New tokens so far, with log-probabilities and attended states; the end token's is the last
    log-probability where it was `ended`."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    attended: tuple[int, ...] = ()
    ended: bool = False

    def plus(self, token: int, logprob: float, attended: int | None) -> _Answer:
        return _Answer(
            (*self.ids, token),
            (*self.logprobs, logprob),
            self.attended if attended is None else (*self.attended, attended),
        )

    def end(self, logprob: float) -> _Answer:
        return _Answer(self.ids, (*self.logprobs, logprob), self.attended, ended=True)

    def before(self, limit: int | None) -> _Answer:
        """Cut before the first token that attends to the state `limit` or a later one."""
        if limit is None:
            return self
        for i, state in enumerate(self.attended):
            if state >= limit:
                return _Answer(self.ids[:i], self.logprobs[:i], self.attended[:i])
        return self


class _Search:
    """What both kinds of search share: the prompts, their limits, and the attention of live rows."""

    def __init__(
        self, decoder: StepDecoder, prompts: Sequence[Prompt], options: DecodeOptions, end: int
    ) -> None:
        self._decoder = decoder
        self._prompts = prompts
        self._options = options
        self._end = end
        self._max_new = [
            min(options.max_new_tokens, MAX_TEXT_POSITIONS - len(prompt.start) - len(prompt.forced))
            for prompt in prompts
        ]
        self._attention: CausalAttention | None = None
        self._forced_attended: list[tuple[int, ...]] = [()] * len(prompts)

    def _start_attention(self, beginning: Beginning) -> None:
        if not wants_attention(self._prompts, self._options):
            return
        if beginning.attention is None:
            raise ValueError("the decoder gave no attention")
        self._attention = CausalAttention([prompt.num_states for prompt in self._prompts])
        attended = self._attention.begin(beginning.attention)
        for item, prompt in enumerate(self._prompts):
            # The row of a token's predecessor predicts it.
            first = len(prompt.start) - 1
            self._forced_attended[item] = tuple(attended[item][first : first + len(prompt.forced)])

    def _attended(self, step: Step) -> list[int] | None:
        if self._attention is None:
            return None
        if step.attention is None:
            raise ValueError("the decoder gave no attention")
        return self._attention.step(step.attention)

    def _select(self, rows: Sequence[int]) -> None:
        chosen = np.asarray(rows, dtype=np.int64)
        self._decoder.select(chosen)
        if self._attention is not None:
            self._attention.select(chosen)

    def _hypothesis(self, item: int, answer: _Answer, no_speech_prob: float) -> Hypothesis:
        prompt = self._prompts[item]
        return Hypothesis(
            ids=(*prompt.forced, *answer.ids),
            sum_logprob=sum(answer.logprobs),
            num_scored=len(answer.logprobs),
            no_speech_prob=no_speech_prob,
            ended=answer.ended,
            attended=(*self._forced_attended[item], *answer.attended) if self._options.attention else (),
        )


# -- greedy and sampling -----------------------------------------------------------------------------


class _GreedySearch(_Search):
    """One row an item. Samples are drawn from an item's own numbers, the same whenever it is asked again."""

    def run(self) -> list[Hypothesis]:
        answers = [_Answer() for _ in self._prompts]
        live = list(range(len(self._prompts)))
        self._randoms = [np.random.default_rng(0) for _ in self._prompts]
        beginning = self._decoder.begin(self._draws(live))
        self._start_attention(beginning)
        step = beginning.step
        while live:
            attended = self._attended(step)
            rows = []
            for row, item in enumerate(live):
                answer = answers[item]
                state = None if attended is None else attended[row]
                answers[item], goes_on = self._take(item, answer, step, row, state)
                if goes_on:
                    rows.append(row)
            if len(rows) < len(live):
                live = [live[row] for row in rows]
                if live:
                    self._select(rows)
            if live:
                tokens = np.array([answers[item].ids[-1] for item in live], dtype=np.int64)
                step = self._decoder.step(tokens, self._draws(live))
        return [
            self._hypothesis(item, answer, float(beginning.no_speech_probs[item]))
            for item, answer in enumerate(answers)
        ]

    def _take(
        self, item: int, answer: _Answer, step: Step, row: int, state: int | None
    ) -> tuple[_Answer, bool]:
        """The answer with this step's token, and whether it goes on."""
        token, logprob = int(step.ids[row, 0]), float(step.logprobs[row, 0])
        limit = self._prompts[item].attention_limit
        if token == self._end:
            return answer.end(logprob), False
        if limit is not None and state is not None and state >= limit:
            return answer, False
        answer = answer.plus(token, logprob, state)
        return answer, len(answer.ids) < self._max_new[item]

    def _draws(self, live: Sequence[int]) -> npt.NDArray[np.float64] | None:
        if self._options.temperature <= 0:
            return None
        return np.array([self._randoms[item].random() for item in live])


# -- beams -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Beams:
    """One item's live beams, best first, with the sums of their log-probabilities, and what is finished."""

    answers: list[_Answer] = field(default_factory=lambda: [_Answer()])
    scores: FloatArray = field(default_factory=lambda: np.zeros(1, dtype=np.float32))
    finished: list[tuple[float, _Answer]] = field(default_factory=list)


class _BeamSearch(_Search):
    """`beam_size` rows an item; the search of one ends when as many hypotheses have."""

    def run(self) -> list[Hypothesis]:
        beginning = self._decoder.begin(None)
        self._start_attention(beginning)
        beams = [_Beams() for _ in self._prompts]
        live = list(range(len(self._prompts)))
        step = beginning.step
        while True:
            attended = self._attended(step)
            rows: list[int] = []
            num_rows = len(step.ids) // len(live)
            for place, item in enumerate(live):
                first = place * num_rows
                states = None if attended is None else attended[first : first + num_rows]
                behind = first + num_rows
                origins = self._advance(
                    item, beams[item], step.ids[first:behind], step.logprobs[first:behind], states
                )
                rows.extend(first + origin for origin in origins)
            live = [item for item in live if beams[item].answers]
            if not live:
                break
            self._select(rows)
            tokens = [answer.ids[-1] for item in live for answer in beams[item].answers]
            step = self._decoder.step(np.array(tokens, dtype=np.int64), None)
        return [
            self._hypothesis(item, self._best(item, beams[item]), float(beginning.no_speech_probs[item]))
            for item in range(len(self._prompts))
        ]

    def _advance(
        self, item: int, beams: _Beams, ids: IntArray, logprobs: FloatArray, attended: list[int] | None
    ) -> list[int]:
        """Take one step of an item. The row that each of its new beams comes from; none: it is finished."""
        beam_size = self._options.beam_size
        totals = beams.scores[:, None] + logprobs
        # Stable, so that of equal scores the better beam's comes first.
        order = np.argsort(-totals, axis=None, kind="stable")[: 2 * beam_size]
        num_new = len(beams.answers[0].ids)
        last = num_new + 1 >= self._max_new[item]
        grown: list[tuple[float, int, _Answer]] = []
        for rank, flat in enumerate(order):
            origin, column = divmod(int(flat), ids.shape[1])
            score, token = float(totals[origin, column]), int(ids[origin, column])
            before = beams.answers[origin]
            logprob = float(logprobs[origin, column])
            if token == self._end and rank > 0 and num_new == 0 and self._prompts[item].forced:
                # As CTranslate2 does: at the first step only the best candidate may end.
                score, token = _DEAD_SCORE, 0
            if token == self._end:
                answer = before.end(logprob)
            else:
                answer = before.plus(token, logprob, None if attended is None else attended[origin])
            grown.append((score, origin, answer))
        alive = [entry for entry in grown[beam_size:] if not entry[2].ended]
        kept: list[tuple[float, int, _Answer]] = []
        for score, origin, answer in grown[:beam_size]:
            if answer.ended or last:
                beams.finished.append((score, answer))
                if not alive:
                    continue
                kept.append(alive.pop(0))
            else:
                kept.append((score, origin, answer))
        if last or len(beams.finished) >= beam_size or len(kept) < beam_size:
            kept = []
        beams.scores = np.array([score for score, _, _ in kept], dtype=np.float32)
        beams.answers = [answer for _, _, answer in kept]
        return [origin for _, origin, _ in kept]

    def _best(self, item: int, beams: _Beams) -> _Answer:
        """The best finished hypothesis by its mean over all of its tokens, forced ones too, end token not."""
        num_forced = len(self._prompts[item].forced)
        means = [score / max(1, num_forced + len(answer.ids)) for score, answer in beams.finished]
        best = beams.finished[int(np.argmax(means))][1]
        return best.before(self._prompts[item].attention_limit)
