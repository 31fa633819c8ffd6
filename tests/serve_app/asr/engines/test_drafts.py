"""A draft changes no text, however wrong it is; a good one saves calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.tiny_weights import MELS, TEXT_POSITIONS, VOCABULARY, WIDTH, converted, tiny_variables
from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.drafts import (
    MAX_GUESS_TOKENS,
    Opening,
    Predictions,
    needs_weights,
    search_drafted,
    uses_drafts,
)
from serve_app.asr.engines.onnx_decoder import OnnxBatch, OnnxDraftDecoder, OnnxStepDecoder
from serve_app.asr.engines.onnx_files import graphs_of
from serve_app.asr.engines.onnx_model import OnnxWhisper
from serve_app.asr.engines.search import search
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.features import FloatArray

START, END = 1, 9
NUM_POSITIONS = 96

EXTRAS = pytest.mark.extras

tokens = st.integers(0, VOCABULARY - 1)


@st.composite
def drafts(draw: st.DrawFn, answer: Sequence[int]) -> tuple[int, ...]:
    """Anything, or the answer with tokens missing, added, replaced or cut off."""
    if draw(st.booleans()):
        return tuple(draw(st.lists(tokens, max_size=60)))
    draft = list(answer)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(draft)))
        draft[place : place + draw(st.integers(0, 3))] = draw(st.lists(tokens, max_size=3))
    return tuple(draft)


# -- the search alone --------------------------------------------------------------------------------------


class HashedText:
    """A decoder whose next token is a hash of all before it: any that is wrong changes all that follow."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._rows = [[*prompt.start, *prompt.forced] for prompt in prompts]
        self._guesses: Sequence[Sequence[int]] = ()
        self.num_calls = 0

    def begin(self, guesses: Sequence[Sequence[int]]) -> Opening:
        probs = np.array([sum(row) / 1000 for row in self._rows], dtype=np.float32)
        return Opening(self._read(guesses), probs)

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> list[Predictions]:
        for row, token in zip(self._rows, tokens, strict=True):
            row.append(token)
        return self._read(guesses)

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        self._rows = [
            [*self._rows[row], *self._guesses[row][:kept]]
            for row, kept in zip(rows, num_guessed, strict=True)
        ]

    def _read(self, guesses: Sequence[Sequence[int]]) -> list[Predictions]:
        self._guesses = guesses
        self.num_calls += 1
        return [
            Predictions(
                np.array([self._next([*row, *guess[:n]]) for n in range(len(guess) + 1)]),
                np.array([-(len(row) + n) / 64 for n in range(len(guess) + 1)], dtype=np.float32),
            )
            for row, guess in zip(self._rows, guesses, strict=True)
        ]

    @staticmethod
    def _next(text: Sequence[int]) -> int:
        return hash(tuple(text)) % (VOCABULARY if len(text) > 12 else END)


def read(prompts: Sequence[Prompt], options: DecodeOptions) -> tuple[list[Hypothesis], int]:
    """The answers, and the calls that they took."""
    decoder = HashedText(prompts)
    found = search_drafted(decoder, prompts, options, start=START, end=END)
    assert max(answer.num_calls for answer in found) == decoder.num_calls
    return [replace(answer, num_calls=0) for answer in found], decoder.num_calls


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_text_is_the_one_without_a_draft(data: st.DataObject) -> None:
    starts = data.draw(st.lists(st.lists(tokens, min_size=1, max_size=4), min_size=1, max_size=4))
    options = DecodeOptions(max_new_tokens=data.draw(st.integers(1, 50)))
    prompts = [Prompt(tuple(start), 1, forced=tuple(start[1:])) for start in starts]
    expected, num_calls = read(prompts, options)
    drafted = [
        replace(prompt, draft=data.draw(drafts(answer.ids[len(prompt.forced) :])))
        for prompt, answer in zip(prompts, expected, strict=True)
    ]
    found, num_with_drafts = read(drafted, options)
    assert found == expected
    assert num_with_drafts <= num_calls
    for answer, prompt in zip(found, prompts, strict=True):
        assert len(answer.ids) <= len(prompt.forced) + options.max_new_tokens


def test_a_right_draft_is_read_in_one_call() -> None:
    prompts, options = [Prompt((1, 2), 1), Prompt((3,), 1)], DecodeOptions(max_new_tokens=30)
    expected, num_calls = read(prompts, options)
    assert num_calls > 8
    drafted = [replace(prompt, draft=answer.ids) for prompt, answer in zip(prompts, expected, strict=True)]
    assert read(drafted, options) == (expected, 1)


def test_a_draft_may_begin_with_what_lies_before_the_window() -> None:
    prompts, options = [Prompt((1, 2), 1)], DecodeOptions(max_new_tokens=30)
    expected, num_calls = read(prompts, options)
    drafted = [replace(prompts[0], draft=(10,) * 40 + expected[0].ids)]
    found, num_with_draft = read(drafted, options)
    assert found == expected
    assert (num_calls > 8, num_with_draft) == (True, 3)


@pytest.mark.parametrize(
    ("change", "used"),
    [({}, True), ({"beam_size": 2}, False), ({"temperature": 0.5}, False), ({"attention": True}, True)],
)
def test_beams_and_samples_do_without(change: dict[str, Any], used: bool) -> None:
    options = DecodeOptions(**change)
    assert uses_drafts([Prompt((1,), 1, draft=(2,)), Prompt((1,), 1)], options) is used
    assert not uses_drafts([Prompt((1,), 1)], options)
    assert uses_drafts([Prompt((1,), 1)], replace(options, alignment=True)) is used


# -- on the engines ----------------------------------------------------------------------------------------

Search = Callable[[Sequence[Prompt], DecodeOptions], list[Hypothesis]]


def on_onnx(path: Path, features: FloatArray, compute_type: str) -> Search:
    weights = read_weights(path)
    model = OnnxWhisper(graphs_of(path, compute_type, path / "cache"), weights.shape, threads=1)
    states = model.encode(features)

    def run(prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        audio = model.project(states[: len(prompts)])
        batch = OnnxBatch(model, audio, prompts, options, start=START, no_speech=2)
        if uses_drafts(prompts, options):
            decoder = OnnxDraftDecoder(batch, end=END)
            return search_drafted(decoder, prompts, options, start=START, end=END)
        return search(OnnxStepDecoder(batch), prompts, options, end=END)

    return run


def on_torch(path: Path, features: FloatArray, *, static: bool) -> Search:
    """`static`: with the shapes of CUDA graphs, whose steps are called here."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from serve_app.asr.engines import torch_decoder, torch_graphs
    from serve_app.asr.engines.torch_model import TorchWhisper

    model = TorchWhisper(read_weights(path), torch.device("cpu"), torch.float32)
    arena = torch_graphs.GraphArena(model, capture=lambda body: body)
    states = model.encode(features)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def run(prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        audio = model.project(states[: len(prompts)])
        lengths = [len(prompt.start) + len(prompt.forced) for prompt in prompts]
        padding = [max(lengths) - length for length in lengths]
        max_tokens = max(lengths) + options.max_new_tokens + MAX_GUESS_TOKENS
        attention = needs_weights(prompts, options)
        runner: torch_decoder.Runner = torch_decoder.EagerRunner(
            model, audio, padding, max_tokens, attention=attention
        )
        if static:
            runner = torch_graphs.StaticRunner(
                arena, audio, padding, max_tokens, beam_size=1, attention=attention
            )
        batch = torch_decoder.TorchBatch(model, runner, prompts, options, start=START, no_speech=2)
        if uses_drafts(prompts, options):
            decoder = torch_decoder.TorchDraftDecoder(batch, end=END)
            return search_drafted(decoder, prompts, options, start=START, end=END)
        return search(torch_decoder.TorchStepDecoder(batch), prompts, options, end=END)

    return run


@pytest.fixture(
    scope="module",
    params=["onnx", "onnx int8", *(pytest.param(name, marks=EXTRAS) for name in ("torch", "torch static"))],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Searches on a random model with room for some text."""
    path = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(5)
    assert TEXT_POSITIONS < NUM_POSITIONS
    positions = random.normal(size=(NUM_POSITIONS, WIDTH)).astype("<f2")
    converted(path, tiny_variables() | {"decoder/position_encodings/encodings": positions})
    features = random.normal(size=(4, MELS, 8)).astype(np.float32)
    engine, _, kind = request.param.partition(" ")
    if engine == "onnx":
        return on_onnx(path, features, "int8_float32" if kind else "float32")
    return on_torch(path, features, static=bool(kind))


def check(run: Search, data: st.DataObject) -> None:
    """Batches of different prompts and drafts, with suppressed tokens and limits of attention."""
    starts = data.draw(st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=4))
    limits = data.draw(st.lists(st.none() | st.integers(1, 3), min_size=4, max_size=4))
    prompts = [
        Prompt(tuple(start), 4, forced=tuple(start[3:]), attention_limit=limit)
        for start, limit in zip(starts, limits, strict=False)
    ]
    options = DecodeOptions(
        max_new_tokens=data.draw(st.integers(1, 40)),
        suppressed=(3,),
        suppressed_first=(END, 1),
        attention=data.draw(st.booleans()),
    )
    expected = run(prompts, options)
    drafted = [
        replace(prompt, draft=data.draw(drafts(answer.ids[len(prompt.forced) :])))
        for prompt, answer in zip(prompts, expected, strict=True)
    ]
    aligned = data.draw(st.booleans())
    found = run(drafted, replace(options, alignment=aligned))
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.ids, ours.ended, ours.num_scored) == (theirs.ids, theirs.ended, theirs.num_scored)
        assert ours.attended == theirs.attended
        assert ours.sum_logprob == pytest.approx(theirs.sum_logprob, abs=0.05)
        assert ours.no_speech_prob == pytest.approx(theirs.no_speech_prob, abs=1e-3)
        is_text = all(token < END for token in ours.ids)
        assert (ours.alignment is not None) is (aligned and ours.ended and is_text)
        if ours.alignment is not None and ours.ids:
            assert {token for token, _ in ours.alignment.path} == set(range(len(ours.ids) + 1))
            assert len(ours.alignment.token_probs) == len(ours.ids)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_engines_give_the_tokens_without_a_draft(run: Search, data: st.DataObject) -> None:
    check(run, data)
