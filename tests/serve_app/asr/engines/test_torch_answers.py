"""Torch gives what CTranslate2 gives in float32, whatever it is batched with; and stops by attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from fakes.two_engines import NUM_FRAMES, Model, same, states_of
from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.search import search, wants_attention
from serve_app.asr.engines.torch_decoder import TorchStepDecoder
from serve_app.asr.engines.torch_graphs import GraphArena, Sizes, StaticRunner, round_up
from serve_app.asr.engines.torch_model import TorchWhisper
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.features import MAX_FRAMES, log_mel
from serve_app.core.jobs import Task
from serve_app.core.samples import Pcm16

pytestmark = [pytest.mark.models, pytest.mark.extras]

Turns = list[tuple[Pcm16, str]]


@pytest.fixture(scope="module")
def base_model(base_folder: Path) -> Model:
    return Model(base_folder)


# -- as CTranslate2 ----------------------------------------------------------------------------------


def test_capabilities_and_dimensions(tiny_model: Model, base_model: Model) -> None:
    can = tiny_model.torch.capabilities
    assert (can.engine, can.device, can.compute_type) == ("torch", "cpu", "float32")
    assert (can.attention, can.mixed_prompts, can.short_windows) == (True, True, True)
    assert not tiny_model.torch.dimensions.multilingual
    for model in (tiny_model, base_model):
        assert model.torch.dimensions == model.reference.dimensions


@pytest.mark.parametrize("name", ["tiny_model", "base_model"])
def test_a_full_window_reads_as_with_ctranslate2(
    name: str, request: pytest.FixtureRequest, turns: Turns
) -> None:
    model: Model = request.getfixturevalue(name)
    for audio, _ in turns[:2]:
        features = log_mel(audio, MAX_FRAMES)[None]
        found, expected = (
            engine.generate(engine.encode(features), model.prompts([audio]), model.options)[0]
            for engine in (model.torch, model.reference)
        )
        assert same(found, expected)
        assert len(found.ids) > 5


@pytest.mark.parametrize("name", ["tiny_model", "base_model"])
@pytest.mark.parametrize("beam_size", [1, 5])
def test_spliced_windows_read_as_with_ctranslate2(
    name: str, beam_size: int, request: pytest.FixtureRequest, short_turns: list[Pcm16]
) -> None:
    model: Model = request.getfixturevalue(name)
    options = replace(model.options, beam_size=beam_size)
    found, expected = (
        engine.generate(model.spliced(engine, short_turns), model.prompts(short_turns), options)
        for engine in (model.torch, model.reference)
    )
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(short_turns)


def test_languages_are_as_likely_as_with_ctranslate2(base_model: Model, short_turns: list[Pcm16]) -> None:
    languages = base_model.vocabulary.languages
    found, expected = (
        engine.detect_language(base_model.spliced(engine, short_turns), languages)
        for engine in (base_model.torch, base_model.reference)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert sum(ours.values()) == pytest.approx(1.0, abs=1e-5)


def test_tokens_lie_where_ctranslate2_finds_them(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    model = tiny_model
    start = model.vocabulary.start_sequence("en", Task.TRANSCRIBE)
    prompts = model.prompts(short_turns)
    answers = model.torch.generate(model.spliced(model.torch, short_turns), prompts, model.options)
    texts = [list(answer.ids) for answer in answers]
    texts[-1] = []
    features = np.stack([log_mel(audio, NUM_FRAMES) for audio in short_turns])
    found, expected = (
        engine.align(engine.encode(features), start, texts, [prompt.num_states for prompt in prompts])
        for engine in (model.torch, model.reference)
    )
    num_equal = num_starts = 0
    for ours, theirs in zip(found, expected, strict=True):
        starts, their_starts = (dict(reversed(side.path)) for side in (ours, theirs))
        assert starts.keys() == their_starts.keys()
        num_equal += sum(starts[token] == their_starts[token] for token in starts)
        num_starts += len(starts)
        assert ours.token_probs == pytest.approx(theirs.token_probs, abs=1e-3)
    assert num_equal >= 0.98 * num_starts


def test_nothing_is_aligned_with_no_audio(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    states = tiny_model.spliced(tiny_model.torch, short_turns[:1])
    [found] = tiny_model.torch.align(states, [tiny_model.vocabulary.start], [[4599]], [0])
    assert found.path == ()


# -- batches -----------------------------------------------------------------------------------------


def mixed(model: Model, audios: Sequence[Pcm16]) -> list[Prompt]:
    """Previous texts of different lengths, languages, tasks and forced texts side by side."""
    starts = [
        model.start(),
        model.start("de", previous="Guten Tag, was führt Sie zu mir?"),
        model.start(previous="A dialogue."),
        model.start(),
        model.start("pt", Task.TRANSLATE),
    ]
    forced = [(), (), (), tuple(model.vocabulary.encode("Mostly dry.")), ()]
    return [
        Prompt(start, states_of(audio), text)
        for start, text, audio in zip(starts, forced, audios, strict=True)
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"attention": True},
        {"beam_size": 3, "attention": True},
        {"temperature": 0.7},
    ],
    ids=["greedy", "beams", "sampling"],
)
@pytest.mark.parametrize("static", [False, True], ids=["eager", "static"])
def test_an_answer_is_the_one_that_the_item_would_have_alone(
    base_model: Model, short_turns: list[Pcm16], change: dict[str, Any], static: bool
) -> None:
    engine, options = base_model.torch, replace(base_model.options, **change)
    states, prompts = base_model.spliced(engine, short_turns), mixed(base_model, short_turns)
    alone = [
        engine.generate(engine.take(states, [i]), [prompt], options)[0] for i, prompt in enumerate(prompts)
    ]
    if static:
        together = StaticShapes(base_model).generate(states, prompts, options)
    else:
        together = engine.generate(states, prompts, options)
    assert [same(*pair) for pair in zip(together, alone, strict=True)] == [True] * len(short_turns)
    assert [answer.attended for answer in together] == [answer.attended for answer in alone]
    assert len({answer.ids for answer in together}) == len(short_turns)


def test_prompts_of_any_length_read_as_with_ctranslate2(base_model: Model, short_turns: list[Pcm16]) -> None:
    """CTranslate2 takes previous texts of one length only, so it reads them one by one. It suppresses the
    end behind forced text too, so that text is none that ends."""
    prompts = mixed(base_model, short_turns)
    together = base_model.torch.generate(
        base_model.spliced(base_model.torch, short_turns), prompts, base_model.options
    )
    states = base_model.spliced(base_model.reference, short_turns)
    for i, (prompt, found) in enumerate(zip(prompts, together, strict=True)):
        one = base_model.reference.take(states, [i])
        [expected] = base_model.reference.generate(one, [prompt], base_model.options)
        assert same(found, expected)


def test_forced_text_that_is_whole_may_end_at_once(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    states, prompts = tiny_model.spliced(tiny_model.torch, short_turns), tiny_model.prompts(short_turns)
    whole = tiny_model.torch.generate(states, prompts, tiny_model.options)
    forced = [replace(prompt, forced=answer.ids) for prompt, answer in zip(prompts, whole, strict=True)]
    for found, expected in zip(
        tiny_model.torch.generate(states, forced, tiny_model.options), whole, strict=True
    ):
        assert found.ids == expected.ids
        assert (found.num_scored, found.ended) == (1, True)


# -- attention ---------------------------------------------------------------------------------------


def test_stopping_at_a_limit_equals_cutting_the_whole_answer(
    tiny_model: Model, short_turns: list[Pcm16]
) -> None:
    random = np.random.default_rng(0)
    states = tiny_model.spliced(tiny_model.torch, short_turns)
    prompts = tiny_model.prompts(short_turns)
    options = replace(tiny_model.options, attention=True)
    whole = tiny_model.torch.generate(states, prompts, options)
    num_stopped = 0
    for _ in range(6):
        limits = [int(random.integers(0, prompt.num_states + 10)) for prompt in prompts]
        lengths = [int(random.integers(0, len(answer.ids) // 2)) for answer in whole]
        limited = [
            replace(prompt, forced=answer.ids[:length], attention_limit=limit)
            for prompt, answer, length, limit in zip(prompts, whole, lengths, limits, strict=True)
        ]
        found = tiny_model.torch.generate(states, limited, options)
        for answer, length, limit, expected in zip(found, lengths, limits, whole, strict=True):
            reached = [i for i, state in enumerate(expected.attended) if i >= length and state >= limit]
            cut = reached[0] if reached else len(expected.ids)
            assert answer.ids == expected.ids[:cut]
            assert answer.attended == expected.attended[:cut]
            assert answer.ended is not bool(reached)
            num_stopped += bool(reached)
    assert 5 < num_stopped < 30


def test_attention_goes_with_the_audio(base_model: Model, short_turns: list[Pcm16]) -> None:
    states, prompts = base_model.spliced(base_model.torch, short_turns), base_model.prompts(short_turns)
    options = replace(base_model.options, attention=True)
    steps: list[int] = []
    for prompt, answer in zip(prompts, base_model.torch.generate(states, prompts, options), strict=True):
        assert len(answer.attended) == len(answer.ids)
        assert max(answer.attended) < prompt.num_states
        steps.extend(np.diff(answer.attended))
    assert np.mean(np.array(steps) >= -2) > 0.9


# -- shapes that stay the same -------------------------------------------------------------------------


class StaticShapes:
    """The runner for CUDA graphs on a CPU: its steps are called, where a card would replay them."""

    def __init__(self, model: Model) -> None:
        self._vocabulary = model.vocabulary
        self._model = TorchWhisper(read_weights(model.path), torch.device("cpu"), torch.float32)
        self.captured = 0
        self._arena = GraphArena(self._model, capture=self._capture)

    def _capture(self, body: Any) -> Any:
        self.captured += 1
        if self.captured == 2:
            raise RuntimeError("this one cannot be captured")
        return body

    def generate(self, states: Any, prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        lengths = [len(prompt.start) + len(prompt.forced) for prompt in prompts]
        with torch.inference_mode():
            runner = StaticRunner(
                self._arena,
                states.project(self._model),
                [max(lengths) - length for length in lengths],
                max(lengths) + options.max_new_tokens,
                beam_size=options.beam_size,
                attention=wants_attention(prompts, options),
            )
            decoder = TorchStepDecoder(
                self._model,
                runner,
                prompts,
                options,
                start=self._vocabulary.start,
                no_speech=self._vocabulary.no_speech,
            )
            return search(decoder, prompts, options, end=self._vocabulary.end)


def test_one_arena_serves_batches_of_all_sizes(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    static = StaticShapes(tiny_model)
    states, prompts = tiny_model.spliced(tiny_model.torch, short_turns), tiny_model.prompts(short_turns)
    for rows in ([0], [0, 1, 2, 3, 4], [3], [4, 1]):
        some, of_these = tiny_model.torch.take(states, rows), [prompts[row] for row in rows]
        found = static.generate(some, of_these, tiny_model.options)
        expected = tiny_model.torch.generate(some, of_these, tiny_model.options)
        assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(rows)
    captured = static.captured
    static.generate(tiny_model.torch.take(states, [2]), [prompts[2]], tiny_model.options)
    assert static.captured == captured


def test_sizes_are_rounded_up_to_few() -> None:
    assert round_up(5, 1, 70, 450, attention=True) == Sizes(8, 1, 128, 512, True)
    assert round_up(1, 5, 300, 1500, attention=False) == Sizes(1, 5, 448, 1536, False)
