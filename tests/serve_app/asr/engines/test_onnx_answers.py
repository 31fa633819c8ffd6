"""onnxruntime gives what CTranslate2 gives in float32, in any batch and on any thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.asr.engines.base import DecodeOptions, Engine, Hypothesis, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.engines.onnx_engine import OnnxEngine
from serve_app.asr.features import MAX_FRAMES, log_mel, num_frames_of
from serve_app.asr.folder import open_model_folder
from serve_app.asr.vocabulary import Vocabulary
from serve_app.asr.whisper import WhisperTranscriber
from serve_app.core.jobs import DecodeJob, Role, Task, Transcript
from serve_app.core.samples import Pcm16

pytestmark = pytest.mark.models

NUM_FRAMES = 400
NUM_STATES = 450

Turns = list[tuple[Pcm16, str]]


class OnBoth:
    """One model on both engines."""

    def __init__(self, path: Path, cache_dir: Path) -> None:
        folder = open_model_folder(path)
        self.path = path
        self.onnx = OnnxEngine(path, compute_type="float32", cache_dir=cache_dir)
        self.reference = CTranslate2Engine(path, device="cpu", compute_type="float32")
        self.engines: tuple[Any, Any] = (self.onnx, self.reference)
        self.vocabulary = Vocabulary(folder.tokenizer_path, multilingual=folder.multilingual)
        times = self.vocabulary.timestamp_ids(self.onnx.dimensions.vocabulary_size)
        self.options = DecodeOptions(
            max_new_tokens=60,
            suppressed=(*folder.suppressed, *times),
            suppressed_first=folder.suppressed_first,
        )
        silence = log_mel(np.zeros(0, np.int16), MAX_FRAMES)[None]
        self._silence = {id(engine): engine.encode(silence) for engine in (self.onnx, self.reference)}

    def start(self, previous: str = "") -> tuple[int, ...]:
        before = [self.vocabulary.previous, *self.vocabulary.encode(previous)] if previous else []
        start = self.vocabulary.start_sequence("en", Task.TRANSCRIBE)
        return (*before, *start, self.vocabulary.no_timestamps)

    def spliced(self, engine: Engine, audios: Sequence[Pcm16]) -> Any:
        features = np.stack([log_mel(audio, NUM_FRAMES) for audio in audios])
        return engine.splice(engine.encode(features), self._silence[id(engine)], NUM_STATES)

    def prompts(self, audios: Sequence[Pcm16]) -> list[Prompt]:
        return [Prompt(self.start(), num_frames_of(len(audio)) // 2) for audio in audios]


def same(found: Hypothesis, expected: Hypothesis) -> bool:
    return (found.ids, found.ended, found.num_scored) == (
        expected.ids,
        expected.ended,
        expected.num_scored,
    ) and (found.sum_logprob, found.no_speech_prob) == (
        pytest.approx(expected.sum_logprob, abs=5e-3),
        pytest.approx(expected.no_speech_prob, abs=1e-3),
    )


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def model(tiny_folder: Path, graphs: Path) -> OnBoth:
    return OnBoth(tiny_folder, graphs)


@pytest.fixture(scope="module")
def multilingual(base_folder: Path, graphs: Path) -> OnBoth:
    return OnBoth(base_folder, graphs)


# -- as CTranslate2 ----------------------------------------------------------------------------------


def test_clips_read_as_with_ctranslate2(model: OnBoth, turns: Turns) -> None:
    """Whole windows, token for token."""
    options = replace(model.options, max_new_tokens=200)
    for audio, _ in turns[::2]:
        features = log_mel(audio, MAX_FRAMES)[None]
        found, expected = (
            engine.generate(engine.encode(features), model.prompts([audio]), options)[0]
            for engine in model.engines
        )
        assert same(found, expected)


@pytest.mark.parametrize("name", ["model", "multilingual"])
@pytest.mark.parametrize("beam_size", [1, 5])
def test_spliced_windows_read_as_with_ctranslate2(
    name: str, beam_size: int, request: pytest.FixtureRequest, short_turns: list[Pcm16]
) -> None:
    model: OnBoth = request.getfixturevalue(name)
    options = replace(model.options, beam_size=beam_size)
    found, expected = (
        engine.generate(model.spliced(engine, short_turns), model.prompts(short_turns), options)
        for engine in model.engines
    )
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(short_turns)


def test_languages_are_as_likely_as_with_ctranslate2(multilingual: OnBoth, short_turns: list[Pcm16]) -> None:
    languages = multilingual.vocabulary.languages
    found, expected = (
        engine.detect_language(multilingual.spliced(engine, short_turns), languages)
        for engine in multilingual.engines
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert sum(ours.values()) == pytest.approx(1.0, abs=1e-5)


def test_tokens_lie_where_ctranslate2_finds_them(model: OnBoth, short_turns: list[Pcm16]) -> None:
    start = model.vocabulary.start_sequence("en", Task.TRANSCRIBE)
    prompts = model.prompts(short_turns)
    answers = model.onnx.generate(model.spliced(model.onnx, short_turns), prompts, model.options)
    texts = [list(answer.ids) for answer in answers]
    texts[-1] = []
    features = np.stack([log_mel(audio, NUM_FRAMES) for audio in short_turns])
    found, expected = (
        engine.align(engine.encode(features), start, texts, [prompt.num_states for prompt in prompts])
        for engine in model.engines
    )
    num_equal = num_starts = 0
    for ours, theirs in zip(found[:-1], expected[:-1], strict=True):
        starts, their_starts = (dict(reversed(side.path)) for side in (ours, theirs))
        assert starts.keys() == their_starts.keys()
        num_equal += sum(starts[token] == their_starts[token] for token in starts)
        num_starts += len(starts)
        assert ours.token_probs == pytest.approx(theirs.token_probs, abs=1e-3)
    assert num_equal >= 0.98 * num_starts
    assert found[-1].path == ()


def test_eight_bits_read_nearly_the_same(model: OnBoth, short_turns: list[Pcm16], graphs: Path) -> None:
    expected = model.onnx.generate(
        model.spliced(model.onnx, short_turns), model.prompts(short_turns), model.options
    )
    for compute_type in ("int8_float32", "int8"):
        engine = OnnxEngine(model.path, compute_type=compute_type, cache_dir=graphs)
        silence = engine.encode(log_mel(np.zeros(0, np.int16), MAX_FRAMES)[None])
        features = np.stack([log_mel(audio, NUM_FRAMES) for audio in short_turns])
        states = engine.splice(engine.encode(features), silence, NUM_STATES)
        found = engine.generate(states, model.prompts(short_turns), model.options)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.ended
            assert len(set(ours.ids) & set(theirs.ids)) > 0.7 * len(set(theirs.ids))


# -- batches and threads -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"attention": True}, {"beam_size": 3, "attention": True}, {"temperature": 0.7}],
    ids=["greedy", "beams", "sampling"],
)
def test_an_answer_is_the_one_that_the_item_would_have_alone(
    model: OnBoth, short_turns: list[Pcm16], change: dict[str, Any]
) -> None:
    """Previous texts of different lengths and forced texts side by side."""
    engine, options = model.onnx, replace(model.options, **change)
    plain = model.prompts(short_turns)
    prompts = [
        plain[0],
        replace(plain[1], start=model.start("Good afternoon, doctor. What is it?")),
        replace(plain[2], start=model.start("A dialogue.")),
        replace(plain[3], forced=tuple(model.vocabulary.encode(" Mostly dry."))),
        replace(plain[4], start=model.start("A dialogue."), forced=tuple(model.vocabulary.encode(" It"))),
    ]
    states = model.spliced(engine, short_turns)
    together = engine.generate(states, prompts, options)
    alone = [
        engine.generate(engine.take(states, [i]), [prompt], options)[0] for i, prompt in enumerate(prompts)
    ]
    assert [same(*pair) for pair in zip(together, alone, strict=True)] == [True] * len(short_turns)
    assert [answer.attended for answer in together] == [answer.attended for answer in alone]
    for answer, prompt in zip(together, prompts, strict=True):
        assert answer.ids[: len(prompt.forced)] == prompt.forced
        assert len(answer.attended) == (len(answer.ids) if options.attention else 0)


def test_stopping_at_a_limit_equals_cutting_the_whole_answer(model: OnBoth, short_turns: list[Pcm16]) -> None:
    random = np.random.default_rng(0)
    states, prompts = model.spliced(model.onnx, short_turns), model.prompts(short_turns)
    options = replace(model.options, attention=True)
    whole = model.onnx.generate(states, prompts, options)
    num_stopped = 0
    for _ in range(4):
        limits = [int(random.integers(0, prompt.num_states + 10)) for prompt in prompts]
        limited = [
            replace(prompt, attention_limit=limit) for prompt, limit in zip(prompts, limits, strict=True)
        ]
        found = model.onnx.generate(states, limited, options)
        for answer, limit, expected in zip(found, limits, whole, strict=True):
            reached = [i for i, state in enumerate(expected.attended) if state >= limit]
            cut = reached[0] if reached else len(expected.ids)
            assert answer.ids == expected.ids[:cut]
            assert answer.ended is not bool(reached)
            num_stopped += bool(reached)
    assert 0 < num_stopped < 20


def test_threads_share_an_engine(model: OnBoth, short_turns: list[Pcm16]) -> None:
    def read(audio: Pcm16) -> Hypothesis:
        states = model.spliced(model.onnx, [audio])
        return model.onnx.generate(states, model.prompts([audio]), model.options)[0]

    expected = [read(audio) for audio in short_turns]
    with ThreadPoolExecutor(max_workers=3) as pool:
        assert list(pool.map(read, short_turns * 2)) == expected * 2


# -- drafts ------------------------------------------------------------------------------------------------


def test_drafts_change_no_token(model: OnBoth, short_turns: list[Pcm16]) -> None:
    """Of a batch: right, empty, of another text, too long, and right but for one word."""
    engine = model.onnx
    states, prompts = model.spliced(engine, short_turns), model.prompts(short_turns)
    expected = engine.generate(states, prompts, model.options)
    right = [answer.ids for answer in expected]
    wrong = (*right[4][:3], 1000, *right[4][4:])
    drafts = [right[0], (), right[0], right[3] * 4, wrong]
    drafted = [replace(prompt, draft=draft) for prompt, draft in zip(prompts, drafts, strict=True)]
    found = engine.generate(states, drafted, model.options)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(short_turns)
    with pytest.raises(ValueError, match="token ids must be under"):
        engine.generate(states, [replace(prompt, draft=(-1,)) for prompt in prompts], model.options)


def test_a_job_hands_its_draft_to_the_engine(
    model: OnBoth, short_turns: list[Pcm16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is the same, in fewer calls of the decoder."""
    transcriber = WhisperTranscriber("tiny.en", model.onnx, open_model_folder(model.path))
    calls: list[int] = []
    decode = model.onnx._model.decode

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return decode(*args, **options)

    monkeypatch.setattr(model.onnx._model, "decode", counted)

    def read(draft: str) -> tuple[str, int]:
        calls.clear()
        job = DecodeJob(1, Role.FINAL, short_turns[0], language="en", draft=draft)
        [found] = transcriber.transcribe([job])
        assert isinstance(found, Transcript)
        return found.text, len(calls)

    text, num_calls = read("")
    again, num_with_draft = read(text)
    assert again == text
    assert num_with_draft < num_calls - 5
    assert read("Something else is said here.")[0] == text
