"""Torch gives what CTranslate2 gives in float32, whatever it is batched with; and stops by attention."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from serve_app.asr.engines import torch_engine
from serve_app.asr.engines.base import DecodeOptions, Engine, Hypothesis, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.engines.search import search, wants_attention
from serve_app.asr.engines.torch_decoder import TorchStepDecoder
from serve_app.asr.engines.torch_engine import TorchEngine, choose_compute_type, choose_device
from serve_app.asr.engines.torch_graphs import GraphArena, Sizes, StaticRunner, round_up
from serve_app.asr.engines.torch_model import TorchWhisper
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.features import MAX_FRAMES, log_mel, num_frames_of
from serve_app.asr.folder import open_model_folder
from serve_app.asr.jobs import Pcm16, Task
from serve_app.asr.vocabulary import Vocabulary
from serve_app.errors import ModelUnavailable

pytestmark = [pytest.mark.models, pytest.mark.extras]

NUM_FRAMES = 400
NUM_STATES = 450
Turns = list[tuple[Pcm16, str]]


class Model:
    """One model on both engines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        folder = open_model_folder(path)
        self.torch = TorchEngine(path, device="cpu")
        self.reference = CTranslate2Engine(path, device="cpu", compute_type="float32")
        self.vocabulary = Vocabulary(folder.tokenizer_path, multilingual=folder.multilingual)
        times = self.vocabulary.timestamp_ids(self.torch.dimensions.vocabulary_size)
        self.options = DecodeOptions(
            max_new_tokens=60,
            suppressed=(*folder.suppressed, *times),
            suppressed_first=folder.suppressed_first,
        )
        silence = log_mel(np.zeros(0, np.int16), MAX_FRAMES)[None]
        self._silence = {id(engine): engine.encode(silence) for engine in (self.torch, self.reference)}

    def start(
        self, language: str = "en", task: Task = Task.TRANSCRIBE, previous: str = ""
    ) -> tuple[int, ...]:
        before = [self.vocabulary.previous, *self.vocabulary.encode(previous)] if previous else []
        start = self.vocabulary.start_sequence(language, task)
        return (*before, *start, self.vocabulary.no_timestamps)

    def spliced(self, engine: Engine, audios: Sequence[Pcm16], num_frames: int = NUM_FRAMES) -> Any:
        features = np.stack([log_mel(audio, num_frames) for audio in audios])
        return engine.splice(engine.encode(features), self._silence[id(engine)], NUM_STATES)

    def prompts(self, audios: Sequence[Pcm16]) -> list[Prompt]:
        return [Prompt(self.start(), states_of(audio)) for audio in audios]


def states_of(audio: Pcm16) -> int:
    return num_frames_of(len(audio)) // 2


@pytest.fixture(scope="module")
def tiny_model(tiny_folder: Path) -> Model:
    return Model(tiny_folder)


@pytest.fixture(scope="module")
def base_model(base_folder: Path) -> Model:
    return Model(base_folder)


@pytest.fixture(scope="module")
def short(turns: Turns) -> list[Pcm16]:
    """Turns of less than four seconds."""
    return [audio for audio, _ in turns if len(audio) < NUM_FRAMES * 160][:5]


def same(found: Hypothesis, expected: Hypothesis) -> bool:
    return (found.ids, found.ended, found.num_scored) == (
        expected.ids,
        expected.ended,
        expected.num_scored,
    ) and (found.sum_logprob, found.no_speech_prob) == (
        pytest.approx(expected.sum_logprob, abs=5e-3),
        pytest.approx(expected.no_speech_prob, abs=1e-3),
    )


# -- as CTranslate2 ----------------------------------------------------------------------------------


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
    name: str, beam_size: int, request: pytest.FixtureRequest, short: list[Pcm16]
) -> None:
    model: Model = request.getfixturevalue(name)
    options = replace(model.options, beam_size=beam_size)
    found, expected = (
        engine.generate(model.spliced(engine, short), model.prompts(short), options)
        for engine in (model.torch, model.reference)
    )
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(short)


def test_languages_are_as_likely_as_with_ctranslate2(base_model: Model, short: list[Pcm16]) -> None:
    languages = base_model.vocabulary.languages
    found, expected = (
        engine.detect_language(base_model.spliced(engine, short), languages)
        for engine in (base_model.torch, base_model.reference)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert sum(ours.values()) == pytest.approx(1.0, abs=1e-5)


def test_tokens_lie_where_ctranslate2_finds_them(tiny_model: Model, short: list[Pcm16]) -> None:
    model = tiny_model
    start = model.vocabulary.start_sequence("en", Task.TRANSCRIBE)
    prompts = model.prompts(short)
    answers = model.torch.generate(model.spliced(model.torch, short), prompts, model.options)
    texts = [list(answer.ids) for answer in answers]
    texts[-1] = []
    features = np.stack([log_mel(audio, NUM_FRAMES) for audio in short])
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


def test_nothing_is_aligned_with_no_audio(tiny_model: Model, short: list[Pcm16]) -> None:
    states = tiny_model.spliced(tiny_model.torch, short[:1])
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
    base_model: Model, short: list[Pcm16], change: dict[str, Any], static: bool
) -> None:
    engine, options = base_model.torch, replace(base_model.options, **change)
    states, prompts = base_model.spliced(engine, short), mixed(base_model, short)
    alone = [
        engine.generate(engine.take(states, [i]), [prompt], options)[0] for i, prompt in enumerate(prompts)
    ]
    if static:
        together = StaticShapes(base_model).generate(states, prompts, options)
    else:
        together = engine.generate(states, prompts, options)
    assert [same(*pair) for pair in zip(together, alone, strict=True)] == [True] * len(short)
    assert [answer.attended for answer in together] == [answer.attended for answer in alone]
    assert len({answer.ids for answer in together}) == len(short)


def test_prompts_of_any_length_read_as_with_ctranslate2(base_model: Model, short: list[Pcm16]) -> None:
    """CTranslate2 takes previous texts of one length only, so it reads them one by one. It suppresses the
    end behind forced text too, so that text is none that ends."""
    prompts = mixed(base_model, short)
    together = base_model.torch.generate(
        base_model.spliced(base_model.torch, short), prompts, base_model.options
    )
    states = base_model.spliced(base_model.reference, short)
    for i, (prompt, found) in enumerate(zip(prompts, together, strict=True)):
        one = base_model.reference.take(states, [i])
        [expected] = base_model.reference.generate(one, [prompt], base_model.options)
        assert same(found, expected)


def test_forced_text_that_is_whole_may_end_at_once(tiny_model: Model, short: list[Pcm16]) -> None:
    states, prompts = tiny_model.spliced(tiny_model.torch, short), tiny_model.prompts(short)
    whole = tiny_model.torch.generate(states, prompts, tiny_model.options)
    forced = [replace(prompt, forced=answer.ids) for prompt, answer in zip(prompts, whole, strict=True)]
    for found, expected in zip(
        tiny_model.torch.generate(states, forced, tiny_model.options), whole, strict=True
    ):
        assert found.ids == expected.ids
        assert (found.num_scored, found.ended) == (1, True)


def test_threads_share_an_engine(tiny_model: Model, short: list[Pcm16]) -> None:
    def read(audio: Pcm16) -> Hypothesis:
        states = tiny_model.spliced(tiny_model.torch, [audio])
        return tiny_model.torch.generate(states, tiny_model.prompts([audio]), tiny_model.options)[0]

    expected = [read(audio) for audio in short]
    with ThreadPoolExecutor(max_workers=3) as pool:
        assert list(pool.map(read, short)) == expected


def test_one_call_at_a_time_where_there_is_one_stream(
    tiny_model: Model, short: list[Pcm16], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    monkeypatch.setattr(tiny_model.torch, "_alone", lock)
    inside = []
    encode = tiny_model.torch._model.encode
    monkeypatch.setattr(
        tiny_model.torch._model, "encode", lambda x: inside.append(lock.locked()) or encode(x)
    )
    tiny_model.spliced(tiny_model.torch, short[:1])
    assert inside == [True]
    assert not lock.locked()


# -- attention ---------------------------------------------------------------------------------------


def test_stopping_at_a_limit_equals_cutting_the_whole_answer(tiny_model: Model, short: list[Pcm16]) -> None:
    random = np.random.default_rng(0)
    states = tiny_model.spliced(tiny_model.torch, short)
    prompts = tiny_model.prompts(short)
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


def test_attention_goes_with_the_audio(base_model: Model, short: list[Pcm16]) -> None:
    states, prompts = base_model.spliced(base_model.torch, short), base_model.prompts(short)
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


def test_one_arena_serves_batches_of_all_sizes(tiny_model: Model, short: list[Pcm16]) -> None:
    static = StaticShapes(tiny_model)
    states, prompts = tiny_model.spliced(tiny_model.torch, short), tiny_model.prompts(short)
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


# -- states ------------------------------------------------------------------------------------------


def test_states_are_spliced_taken_and_counted(tiny_model: Model, short: list[Pcm16]) -> None:
    engine = tiny_model.torch
    states = engine.encode(np.stack([log_mel(audio, NUM_FRAMES) for audio in short]))
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


def test_what_cannot_be_computed_is_refused(tiny_model: Model, short: list[Pcm16]) -> None:
    engine = tiny_model.torch
    for shape in ((1, 80, 401), (1, 80, 3002), (1, 80, 0), (1, 79, 400), (80, 400)):
        with pytest.raises(ValueError, match="expected"):
            engine.encode(np.zeros(shape, np.float32))
    states = tiny_model.spliced(engine, short[:1])
    with pytest.raises(ValueError, match="0 prompts for 1 items"):
        engine.generate(states, [], tiny_model.options)
    with pytest.raises(ValueError, match="a prompt of 450 tokens"):
        engine.generate(states, [Prompt((5,) * 450, 10)], tiny_model.options)
    with pytest.raises(ValueError, match="0 texts and 0 lengths for 1 items"):
        engine.align(states, [5], [], [])
    with pytest.raises(ValueError, match="a text of 453 tokens"):
        engine.align(states, [5], [[6] * 450], [100])


# -- loading -----------------------------------------------------------------------------------------


def test_capabilities_and_dimensions(tiny_model: Model, base_model: Model) -> None:
    can = tiny_model.torch.capabilities
    assert (can.engine, can.device, can.compute_type) == ("torch", "cpu", "float32")
    assert (can.attention, can.mixed_prompts, can.short_windows) == (True, True, True)
    assert not tiny_model.torch.dimensions.multilingual
    for model in (tiny_model, base_model):
        assert model.torch.dimensions == model.reference.dimensions


def test_bfloat16_reads_nearly_the_same(tiny_model: Model, short: list[Pcm16]) -> None:
    engine = TorchEngine(tiny_model.path, device="cpu", compute_type="bfloat16")
    silence = engine.encode(log_mel(np.zeros(0, np.int16), MAX_FRAMES)[None])
    features = np.stack([log_mel(audio, NUM_FRAMES) for audio in short[:2]])
    found = engine.generate(
        engine.splice(engine.encode(features), silence, NUM_STATES),
        tiny_model.prompts(short[:2]),
        tiny_model.options,
    )
    expected = tiny_model.torch.generate(
        tiny_model.spliced(tiny_model.torch, short[:2]), tiny_model.prompts(short[:2]), tiny_model.options
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
