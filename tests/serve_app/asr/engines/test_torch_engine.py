"""What the torch engine runs on, shares between threads, splices, and refuses."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from fakes.two_engines import NUM_FRAMES, NUM_STATES, Model, all_same
from serve_app.asr.engines import torch_engine
from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.search import search, wants_attention
from serve_app.asr.engines.torch_decoder import TorchBatch, TorchStepDecoder
from serve_app.asr.engines.torch_engine import TorchEngine, choose_compute_type, choose_device
from serve_app.asr.engines.torch_graphs import GraphArena, Sizes, StaticRunner, round_up
from serve_app.asr.engines.torch_model import TorchWhisper
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.features import MAX_FRAMES, log_mel
from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import Pcm16

pytestmark = [pytest.mark.models, pytest.mark.extras]


@pytest.fixture(scope="module")
def tiny_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("torch", tiny_folder, tmp_path_factory.mktemp("cache"))


# -- states ------------------------------------------------------------------------------------------


def test_states_are_spliced_taken_and_counted(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    engine = tiny_model.engine
    states = engine.encode(np.stack([log_mel(audio, NUM_FRAMES) for audio in short_turns]))
    silence = engine.encode(log_mel(np.zeros(0, np.int16), MAX_FRAMES)[None])
    assert engine.num_states(states) == NUM_FRAMES // 2
    spliced = engine.splice(states, silence, NUM_STATES)
    assert engine.num_states(spliced) == NUM_STATES
    assert engine.splice(states, silence, NUM_FRAMES // 2) is states
    taken = engine.take(spliced, [3, 0])
    assert engine.num_states(taken) == NUM_STATES
    torch.testing.assert_close(taken.own, states.own[[3, 0]])
    with pytest.raises(ValueError, match="silence behind them already"):
        engine.splice(spliced, silence, NUM_STATES + 1)
    with pytest.raises(ValueError, match="one item of at least"):
        engine.splice(states, states, NUM_STATES)


def test_what_cannot_be_computed_is_refused(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    engine = tiny_model.engine
    for shape in ((1, 80, 401), (1, 80, 3002), (1, 80, 0), (1, 79, 400), (80, 400)):
        with pytest.raises(ValueError, match="expected"):
            engine.encode(np.zeros(shape, np.float32))
    states = tiny_model.spliced(engine, short_turns[:1])
    with pytest.raises(ValueError, match="0 prompts for 1 items"):
        engine.generate(states, [], tiny_model.options)
    with pytest.raises(ValueError, match="a prompt of 450 tokens"):
        engine.generate(states, [Prompt((5,) * 450, 10)], tiny_model.options)
    with pytest.raises(ValueError, match="0 texts and 0 lengths for 1 items"):
        engine.align(states, [5], [], [])
    with pytest.raises(ValueError, match="a text of 453 tokens"):
        engine.align(states, [5], [[6] * 450], [100])


# -- threads -----------------------------------------------------------------------------------------


def test_one_call_at_a_time_where_there_is_one_stream(
    tiny_model: Model, short_turns: list[Pcm16], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    monkeypatch.setattr(tiny_model.engine, "_alone", lock)
    inside = []
    encode = tiny_model.engine._model.encode
    monkeypatch.setattr(
        tiny_model.engine._model, "encode", lambda x: inside.append(lock.locked()) or encode(x)
    )
    tiny_model.spliced(tiny_model.engine, short_turns[:1])
    assert inside == [True]
    assert not lock.locked()


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
                states.project(),
                [max(lengths) - length for length in lengths],
                max(lengths) + options.max_new_tokens,
                beam_size=options.beam_size,
                attention=wants_attention(prompts, options),
            )
            known = self._vocabulary
            batch = TorchBatch(
                self._model, runner, prompts, options, start=known.start, no_speech=known.no_speech
            )
            return search(TorchStepDecoder(batch), prompts, options, end=known.end)


def test_one_arena_serves_batches_of_all_sizes(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    static = StaticShapes(tiny_model)
    states, prompts = tiny_model.spliced(tiny_model.engine, short_turns), tiny_model.prompts(short_turns)
    for rows in ([0], [0, 1, 2, 3, 4], [3], [4, 1]):
        some, of_these = tiny_model.engine.take(states, rows), [prompts[row] for row in rows]
        found = static.generate(some, of_these, tiny_model.options)
        expected = tiny_model.engine.generate(some, of_these, tiny_model.options)
        assert all_same(found, expected)
    captured = static.captured
    static.generate(tiny_model.engine.take(states, [2]), [prompts[2]], tiny_model.options)
    assert static.captured == captured


@pytest.mark.parametrize(
    "change",
    [{"attention": True}, {"beam_size": 3, "attention": True}, {"temperature": 0.7}],
    ids=["greedy", "beams", "sampling"],
)
def test_shapes_that_stay_change_no_answer(
    tiny_model: Model, short_turns: list[Pcm16], change: dict[str, Any]
) -> None:
    """Prompts of different lengths and forced text, side by side."""
    engine, options = tiny_model.engine, replace(tiny_model.options, **change)
    states, prompts = tiny_model.spliced(engine, short_turns), tiny_model.prompts(short_turns)
    prompts[1] = replace(prompts[1], start=tiny_model.start(previous="A dialogue."))
    prompts[3] = replace(prompts[3], forced=tuple(tiny_model.vocabulary.encode(" Mostly dry.")))
    found = StaticShapes(tiny_model).generate(states, prompts, options)
    expected = engine.generate(states, prompts, options)
    assert all_same(found, expected)
    assert [answer.attended for answer in found] == [answer.attended for answer in expected]


def test_sizes_are_rounded_up_to_few() -> None:
    assert round_up(5, 1, 70, 450, attention=True) == Sizes(8, 1, 128, 512, True)
    assert round_up(1, 5, 300, 1500, attention=False) == Sizes(1, 5, 448, 1536, False)


# -- loading -----------------------------------------------------------------------------------------


def test_devices_and_types_are_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ModelUnavailable, match="cuda was asked for"):
        choose_device("cuda")
    with pytest.raises(ModelUnavailable, match="unknown device 'tpu'"):
        choose_device("tpu")
    assert choose_compute_type("auto", "cuda") == "bfloat16"
    assert choose_compute_type("float16", "cuda") == "float16"
    assert choose_compute_type("int8", "cpu") == "float32"


def test_the_first_number_of_threads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch_engine, "_num_threads", None)
    torch_engine._set_threads(2)
    torch_engine._set_threads(4)
    assert asked == [2]


def test_a_folder_without_its_weights_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="holds no Whisper model"):
        TorchEngine(tmp_path)
    for file in tiny_folder.iterdir():
        if file.name != "model.bin":
            shutil.copy(file, tmp_path)
    (tmp_path / "model.bin").write_bytes((tiny_folder / "model.bin").read_bytes()[:1000])
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        TorchEngine(tmp_path)
