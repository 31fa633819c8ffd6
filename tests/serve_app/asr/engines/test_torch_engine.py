"""What the torch engine runs on, shares between threads, splices, and refuses."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from fakes.two_engines import NUM_FRAMES, NUM_STATES, Model
from serve_app.asr.engines import torch_engine
from serve_app.asr.engines.base import Hypothesis, Prompt
from serve_app.asr.engines.torch_engine import TorchEngine, choose_compute_type, choose_device
from serve_app.asr.features import MAX_FRAMES, log_mel
from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import Pcm16

pytestmark = [pytest.mark.models, pytest.mark.extras]


# -- states ------------------------------------------------------------------------------------------


def test_states_are_spliced_taken_and_counted(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    engine = tiny_model.torch
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
    engine = tiny_model.torch
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


def test_threads_share_an_engine(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    def read(audio: Pcm16) -> Hypothesis:
        states = tiny_model.spliced(tiny_model.torch, [audio])
        return tiny_model.torch.generate(states, tiny_model.prompts([audio]), tiny_model.options)[0]

    expected = [read(audio) for audio in short_turns]
    with ThreadPoolExecutor(max_workers=3) as pool:
        assert list(pool.map(read, short_turns)) == expected


def test_one_call_at_a_time_where_there_is_one_stream(
    tiny_model: Model, short_turns: list[Pcm16], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    monkeypatch.setattr(tiny_model.torch, "_alone", lock)
    inside = []
    encode = tiny_model.torch._model.encode
    monkeypatch.setattr(
        tiny_model.torch._model, "encode", lambda x: inside.append(lock.locked()) or encode(x)
    )
    tiny_model.spliced(tiny_model.torch, short_turns[:1])
    assert inside == [True]
    assert not lock.locked()


# -- loading -----------------------------------------------------------------------------------------


def test_bfloat16_reads_nearly_the_same(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    engine = TorchEngine(tiny_model.path, device="cpu", compute_type="bfloat16")
    silence = engine.encode(log_mel(np.zeros(0, np.int16), MAX_FRAMES)[None])
    features = np.stack([log_mel(audio, NUM_FRAMES) for audio in short_turns[:2]])
    found = engine.generate(
        engine.splice(engine.encode(features), silence, NUM_STATES),
        tiny_model.prompts(short_turns[:2]),
        tiny_model.options,
    )
    expected = tiny_model.torch.generate(
        tiny_model.spliced(tiny_model.torch, short_turns[:2]),
        tiny_model.prompts(short_turns[:2]),
        tiny_model.options,
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.ended
        assert len(set(ours.ids) & set(theirs.ids)) > 0.7 * len(set(theirs.ids))


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
