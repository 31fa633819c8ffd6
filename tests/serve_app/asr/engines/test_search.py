"""The token search over a small made-up model, whose answers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.search import (
    Beginning,
    IntArray,
    Step,
    drawn,
    num_candidates,
    search,
    wants_attention,
)
from serve_app.models.footprint import MAX_TEXT_POSITIONS

VOCABULARY = 12
END = 11
NUM_STATES = 20
NUM_HEADS = 2


def logprobs_after(ids: Sequence[int], options: DecodeOptions, *, first: bool) -> np.ndarray:
    """The made-up model: what follows depends on all ids so far."""
    logits = np.random.default_rng([7, *ids]).normal(0, 2, VOCABULARY)
    logits[END] += 0.3 * len(ids)
    logits[list(options.suppressed)] = -np.inf
    if first:
        logits[list(options.suppressed_first)] = -np.inf
    return logits - np.log(np.exp(logits).sum())


def weights_of(ids: Sequence[int]) -> np.ndarray:
    """The attention `(num_heads, num_states)` of the token that follows: it moves on with each token."""
    weights = np.random.default_rng([8, *ids]).uniform(0, 0.01, (NUM_HEADS, NUM_STATES))
    weights[:, min(NUM_STATES - 1, 2 * len(ids))] += 0.5
    return weights.astype(np.float32)


class MadeUpDecoder:
    """A `StepDecoder` that recounts its rows from their ids at every step."""

    def __init__(self, prompts: Sequence[Prompt], options: DecodeOptions) -> None:
        self._prompts = prompts
        self._options = options
        self._attention = wants_attention(prompts, options)
        self._rows = [(i, (*prompt.start, *prompt.forced)) for i, prompt in enumerate(prompts)]
        self.num_steps = 0
        self.row_counts: list[int] = []

    def begin(self, draws: np.ndarray | None) -> Beginning:
        step = self._step(draws, [not prompt.forced for prompt in self._prompts])
        attention = None
        if self._attention:
            attention = [
                np.stack([weights_of(ids[:i]) for i in range(1, len(ids))], axis=1)
                if len(ids) > 1
                else np.zeros((NUM_HEADS, 0, NUM_STATES), np.float32)
                for _, ids in self._rows
            ]
        no_speech = np.array([0.1 * (1 + prompt.start[0]) for prompt in self._prompts], np.float32)
        return Beginning(step, no_speech, attention)

    def step(self, tokens: IntArray, draws: np.ndarray | None) -> Step:
        self._rows = [
            (item, (*ids, int(token))) for (item, ids), token in zip(self._rows, tokens, strict=True)
        ]
        self.num_steps += 1
        self.row_counts.append(len(self._rows))
        return self._step(draws, [False] * len(self._rows))

    def select(self, rows: IntArray) -> None:
        self._rows = [self._rows[row] for row in rows]
        items = [item for item, _ in self._rows]
        runs = [items.count(item) for item in dict.fromkeys(items)]
        assert len(set(runs)) == 1
        assert items == [item for item in dict.fromkeys(items) for _ in range(runs[0])]

    def _step(self, draws: np.ndarray | None, first: Sequence[bool]) -> Step:
        logprobs = np.stack(
            [
                logprobs_after(ids, self._options, first=one)
                for (_, ids), one in zip(self._rows, first, strict=True)
            ]
        )
        if draws is None:
            ids = np.argsort(-logprobs, axis=1, kind="stable")[:, : num_candidates(self._options)]
        else:
            ids = drawn(logprobs, draws, self._options.temperature)
        attention = np.stack([weights_of(ids) for _, ids in self._rows]) if self._attention else None
        return Step(ids, np.take_along_axis(logprobs, ids, axis=1).astype(np.float32), attention)


def answer(prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
    return search(MadeUpDecoder(prompts, options), prompts, options, end=END)


def prompts_of(seed: int, count: int = 4) -> list[Prompt]:
    random = np.random.default_rng(seed)
    return [
        Prompt(
            start=tuple(map(int, random.integers(0, 9, random.integers(1, 4)))),
            num_states=int(random.integers(8, NUM_STATES + 1)),
            forced=tuple(map(int, random.integers(0, 9, random.integers(0, 4)))),
        )
        for _ in range(count)
    ]


def same(found: Hypothesis, expected: Hypothesis) -> bool:
    return replace(found, sum_logprob=0.0) == replace(expected, sum_logprob=0.0) and found.sum_logprob == (
        pytest.approx(expected.sum_logprob, abs=1e-5)
    )


OPTIONS = [
    DecodeOptions(max_new_tokens=9, suppressed=(3,), suppressed_first=(END,), attention=True),
    DecodeOptions(max_new_tokens=9, suppressed=(3,), temperature=0.8),
    DecodeOptions(max_new_tokens=9, suppressed=(3,), suppressed_first=(END,), beam_size=3, attention=True),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["greedy", "sampling", "beams"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_an_answer_is_the_one_that_the_item_would_have_alone(options: DecodeOptions, seed: int) -> None:
    prompts = prompts_of(seed)
    together = answer(prompts, options)
    for prompt, found in zip(prompts, together, strict=True):
        assert same(found, answer([prompt], options)[0])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_greedy_takes_the_best_token_until_the_end(seed: int) -> None:
    options = OPTIONS[0]
    [prompt] = prompts_of(seed, 1)
    [found] = answer([prompt], options)
    ids, total, ended = [*prompt.start, *prompt.forced], 0.0, False
    for step in range(options.max_new_tokens):
        logprobs = logprobs_after(ids, options, first=step == 0 and not prompt.forced)
        total += logprobs.max()
        if logprobs.argmax() == END:
            ended = True
            break
        ids.append(int(logprobs.argmax()))
    assert found.ids == tuple(ids[len(prompt.start) :])
    assert found.ended is ended
    assert found.num_scored == len(found.ids) - len(prompt.forced) + ended
    assert found.sum_logprob == pytest.approx(total, abs=1e-5)
    assert found.no_speech_prob == pytest.approx(0.1 * (1 + prompt.start[0]))
    assert len(found.attended) == len(found.ids)


@given(seed=st.integers(0, 10_000), limit=st.integers(0, NUM_STATES))
@settings(max_examples=40, deadline=None)
def test_stopping_at_a_limit_equals_cutting_the_whole_answer(seed: int, limit: int) -> None:
    options = OPTIONS[0]
    prompts = prompts_of(seed)
    limited = answer([replace(prompt, attention_limit=limit) for prompt in prompts], options)
    for prompt, whole, found in zip(prompts, answer(prompts, options), limited, strict=True):
        num_forced = len(prompt.forced)
        reached = [i for i, state in enumerate(whole.attended) if i >= num_forced and state >= limit]
        cut = reached[0] if reached else len(whole.ids)
        assert found.ids == whole.ids[:cut]
        assert found.attended == whole.attended[:cut]
        assert found.ended is (whole.ended and not reached)
        assert found.num_scored == cut - num_forced + found.ended


def test_beams_are_cut_at_the_limit() -> None:
    options = OPTIONS[2]
    cuts = 0
    for prompt in prompts_of(3, 12):
        [whole] = answer([prompt], options)
        [found] = answer([replace(prompt, attention_limit=9)], options)
        assert found.ids == whole.ids[: len(found.ids)]
        assert all(state < 9 for state in found.attended[len(prompt.forced) :])
        cuts += len(found.ids) < len(whole.ids)
    assert cuts


def test_attended_states_are_given_only_when_asked_for() -> None:
    options = replace(OPTIONS[0], attention=False)
    [prompt] = prompts_of(1, 1)
    assert answer([replace(prompt, attention_limit=NUM_STATES)], options)[0].attended == ()


def test_finished_items_leave_the_batch() -> None:
    prompts = prompts_of(5, 6)
    decoder = MadeUpDecoder(prompts, OPTIONS[0])
    answers = search(decoder, prompts, OPTIONS[0], end=END)
    # The last token of an item is not fed any more.
    lengths = [found.num_scored - 1 for found in answers]
    assert decoder.row_counts == [sum(length > step for length in lengths) for step in range(max(lengths))]


# -- beams -------------------------------------------------------------------------------------------


def every_answer(prompt: Prompt, options: DecodeOptions) -> dict[tuple[int, ...], float]:
    """Mean log-probability of each answer that there can be, by its ids."""
    found: dict[tuple[int, ...], float] = {}

    def grow(new: tuple[int, ...], total: float) -> None:
        ids = (*prompt.start, *prompt.forced, *new)
        logprobs = logprobs_after(ids, options, first=not new and not prompt.forced)
        for token in range(VOCABULARY):
            if not np.isfinite(logprobs[token]):
                continue
            score = total + logprobs[token]
            if token == END or len(new) + 1 == options.max_new_tokens:
                whole = new if token == END else (*new, token)
                if whole or prompt.forced:
                    found[whole] = score / (len(whole) + len(prompt.forced))
            else:
                grow((*new, token), score)

    grow((), 0.0)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_beams_as_wide_as_all_answers_find_the_best(seed: int) -> None:
    options = DecodeOptions(max_new_tokens=2, suppressed_first=(END,), beam_size=VOCABULARY - 1)
    [prompt] = [replace(prompt, forced=()) for prompt in prompts_of(seed, 1)]
    [found] = answer([prompt], options)
    all_answers = every_answer(prompt, options)
    assert found.ids in all_answers
    assert all_answers[found.ids] == pytest.approx(max(all_answers.values()), abs=1e-5)


def test_beams_find_what_greedy_misses() -> None:
    better = 0
    for prompt in prompts_of(11, 30):
        one = replace(OPTIONS[2], beam_size=1)
        greedy, beams = answer([prompt], one)[0], answer([prompt], OPTIONS[2])[0]
        better += beams.ids != greedy.ids
        assert beams.num_scored == len(beams.ids) - len(prompt.forced) + beams.ended
    assert better


# -- sampling ----------------------------------------------------------------------------------------


def test_samples_come_again_and_follow_the_temperature() -> None:
    prompts = prompts_of(2, 8)
    assert answer(prompts, OPTIONS[1]) == answer(prompts, OPTIONS[1])
    greedy = answer(prompts, replace(OPTIONS[1], temperature=0.0))
    cold = answer(prompts, replace(OPTIONS[1], temperature=1e-3))
    hot = answer(prompts, replace(OPTIONS[1], temperature=2.0))
    assert [one.ids for one in cold] == [one.ids for one in greedy]
    assert [one.ids for one in hot] != [one.ids for one in greedy]


def test_draws_fall_on_tokens_as_often_as_they_are_likely() -> None:
    probs = np.array([0.0, 0.1, 0.0, 0.6, 0.3])
    with np.errstate(divide="ignore"):
        logprobs = np.log(probs)[None].repeat(1000, axis=0)
    ids = drawn(logprobs, np.arange(1000) / 1000, 1.0)[:, 0]
    np.testing.assert_allclose(np.bincount(ids, minlength=5) / 1000, probs, atol=0.002)


# -- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_positions_there_are_bound_the_answer(beam_size: int) -> None:
    endless = DecodeOptions(max_new_tokens=50, suppressed=(END,), beam_size=beam_size)
    long = Prompt(start=(1,) * (MAX_TEXT_POSITIONS - 5), num_states=5, forced=(2, 2))
    short = Prompt(start=(1,), num_states=5)
    found, other = answer([long, short], endless)
    assert len(found.ids) == 5
    assert not found.ended
    assert found.num_scored == 3
    assert len(other.ids) == 50


def test_what_cannot_be_decoded_is_refused() -> None:
    fine = Prompt((1,), 5)
    with pytest.raises(ValueError, match="447"):
        answer([Prompt((1,) * MAX_TEXT_POSITIONS, 5)], DecodeOptions())
    with pytest.raises(ValueError, match="a prompt of 0 tokens"):
        answer([Prompt((), 5)], DecodeOptions())
    with pytest.raises(ValueError, match="at least 1"):
        answer([fine], DecodeOptions(max_new_tokens=0))
    assert search(MadeUpDecoder([], DecodeOptions()), [], DecodeOptions(), end=END) == []
