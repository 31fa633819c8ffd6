"""Engines of our own give what CTranslate2 gives in float32, in any batch and on any thread, with or without
drafts; and they stop by attention. MLX, which is slow on a CPU, has its own shorter tests."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.two_engines import (
    NUM_STATES,
    SILENCE,
    Model,
    all_same,
    load_engine,
    mels,
    same,
    states_of,
)
from serve_app.asr.engines.base import Hypothesis, Prompt
from serve_app.asr.features import MAX_FRAMES, log_mel
from serve_app.asr.folder import open_model_folder
from serve_app.asr.whisper import WhisperTranscriber
from serve_app.core.jobs import DecodeJob, Role, Task, Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

pytestmark = pytest.mark.models

SMALLER_TYPES = {"onnx": ("int8_float32", "int8"), "torch": ("bfloat16",)}

Turns = list[tuple[Pcm16, str]]


@pytest.fixture(scope="module", params=["onnx", pytest.param("torch", marks=pytest.mark.extras)])
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def tiny_model(name: str, tiny_folder: Path, cache_dir: Path) -> Model:
    return Model(name, tiny_folder, cache_dir)


@pytest.fixture(scope="module")
def base_model(name: str, base_folder: Path, cache_dir: Path) -> Model:
    return Model(name, base_folder, cache_dir)


# -- as CTranslate2 ----------------------------------------------------------------------------------


def test_capabilities_and_dimensions(name: str, tiny_model: Model, base_model: Model) -> None:
    can = tiny_model.engine.capabilities
    assert (can.engine, can.device, can.compute_type) == (name, "cpu", "float32")
    assert (can.attention, can.mixed_prompts, can.short_windows) == (True, True, True)
    for model in (tiny_model, base_model):
        assert model.engine.dimensions == model.reference.dimensions


@pytest.mark.usefixtures("name")
@pytest.mark.parametrize(("size", "every"), [("tiny_model", 2), ("base_model", 6)])
def test_whole_windows_read_as_with_ctranslate2(
    size: str, every: int, request: pytest.FixtureRequest, turns: Turns
) -> None:
    model: Model = request.getfixturevalue(size)
    options = replace(model.options, max_new_tokens=200)
    for audio, _ in turns[::every]:
        features = log_mel(audio, MAX_FRAMES)[None]
        found, expected = (
            engine.generate(engine.encode(features), model.prompts([audio]), options)[0]
            for engine in model.both
        )
        assert same(found, expected)
        assert len(found.ids) > 2


@pytest.mark.usefixtures("name")
@pytest.mark.parametrize("size", ["tiny_model", "base_model"])
@pytest.mark.parametrize("beam_size", [1, 5])
def test_spliced_windows_read_as_with_ctranslate2(
    size: str, beam_size: int, request: pytest.FixtureRequest, short_turns: list[Pcm16]
) -> None:
    model: Model = request.getfixturevalue(size)
    options = replace(model.options, beam_size=beam_size)
    found, expected = (
        engine.generate(model.spliced(engine, short_turns), model.prompts(short_turns), options)
        for engine in model.both
    )
    assert all_same(found, expected)


def test_languages_are_as_likely_as_with_ctranslate2(base_model: Model, short_turns: list[Pcm16]) -> None:
    languages = base_model.vocabulary.languages
    found, expected = (
        engine.detect_language(base_model.spliced(engine, short_turns), languages)
        for engine in base_model.both
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert sum(ours.values()) == pytest.approx(1.0, abs=1e-5)


def test_tokens_lie_where_ctranslate2_finds_them(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    model = tiny_model
    start = model.vocabulary.start_sequence("en", Task.TRANSCRIBE)
    prompts = model.prompts(short_turns)
    answers = model.engine.generate(model.spliced(model.engine, short_turns), prompts, model.options)
    texts = [list(answer.ids) for answer in answers]
    texts[-1] = []
    features, lengths = mels(short_turns), [prompt.num_states for prompt in prompts]
    found, expected = (engine.align(engine.encode(features), start, texts, lengths) for engine in model.both)
    num_equal = num_starts = 0
    for ours, theirs in zip(found[:-1], expected[:-1], strict=True):
        starts, their_starts = (dict(reversed(side.path)) for side in (ours, theirs))
        assert starts.keys() == their_starts.keys()
        num_equal += sum(starts[token] == their_starts[token] for token in starts)
        num_starts += len(starts)
        assert ours.token_probs == pytest.approx(theirs.token_probs, abs=1e-3)
    assert num_equal >= 0.98 * num_starts
    assert found[-1].path == ()


def test_nothing_is_aligned_with_no_audio(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    states = tiny_model.spliced(tiny_model.engine, short_turns[:1])
    [found] = tiny_model.engine.align(states, [tiny_model.vocabulary.start], [[4599]], [0])
    assert found.path == ()


def test_smaller_types_read_nearly_the_same(
    name: str, tiny_model: Model, short_turns: list[Pcm16], cache_dir: Path
) -> None:
    model, some = tiny_model, short_turns[:3]
    expected = model.engine.generate(model.spliced(model.engine, some), model.prompts(some), model.options)
    for compute_type in SMALLER_TYPES[name]:
        engine = load_engine(name, model.path, cache_dir, compute_type)
        states = engine.splice(engine.encode(mels(some)), engine.encode(SILENCE), NUM_STATES)
        found = engine.generate(states, model.prompts(some), model.options)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.ended
            assert len(set(ours.ids) & set(theirs.ids)) > 0.7 * len(set(theirs.ids))


# -- batches and threads -------------------------------------------------------------------------------


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
    [{"attention": True}, {"beam_size": 3, "attention": True}, {"temperature": 0.7}],
    ids=["greedy", "beams", "sampling"],
)
def test_an_answer_is_the_one_that_the_item_would_have_alone(
    base_model: Model, short_turns: list[Pcm16], change: dict[str, Any]
) -> None:
    engine, options = base_model.engine, replace(base_model.options, **change)
    states, prompts = base_model.spliced(engine, short_turns), mixed(base_model, short_turns)
    together = engine.generate(states, prompts, options)
    alone = [
        engine.generate(engine.take(states, [i]), [prompt], options)[0] for i, prompt in enumerate(prompts)
    ]
    assert all_same(together, alone)
    assert [answer.attended for answer in together] == [answer.attended for answer in alone]
    assert len({answer.ids for answer in together}) == len(short_turns)
    for answer, prompt in zip(together, prompts, strict=True):
        assert answer.ids[: len(prompt.forced)] == prompt.forced
        assert len(answer.attended) == (len(answer.ids) if options.attention else 0)


def test_prompts_of_any_length_read_as_with_ctranslate2(base_model: Model, short_turns: list[Pcm16]) -> None:
    """CTranslate2 takes previous texts of one length only, so it reads them one by one. It suppresses the
    end behind forced text too, so that text is none that ends."""
    engine, reference = base_model.both
    prompts = mixed(base_model, short_turns)
    together = engine.generate(base_model.spliced(engine, short_turns), prompts, base_model.options)
    states = base_model.spliced(reference, short_turns)
    for i, (prompt, found) in enumerate(zip(prompts, together, strict=True)):
        [expected] = reference.generate(reference.take(states, [i]), [prompt], base_model.options)
        assert same(found, expected)


def test_forced_text_that_is_whole_may_end_at_once(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    states, prompts = tiny_model.spliced(tiny_model.engine, short_turns), tiny_model.prompts(short_turns)
    whole = tiny_model.engine.generate(states, prompts, tiny_model.options)
    forced = [replace(prompt, forced=answer.ids) for prompt, answer in zip(prompts, whole, strict=True)]
    for found, expected in zip(
        tiny_model.engine.generate(states, forced, tiny_model.options), whole, strict=True
    ):
        assert found.ids == expected.ids
        assert (found.num_scored, found.ended) == (1, True)


def test_threads_share_an_engine(tiny_model: Model, short_turns: list[Pcm16]) -> None:
    def read(audio: Pcm16) -> Hypothesis:
        states = tiny_model.spliced(tiny_model.engine, [audio])
        found: Hypothesis = tiny_model.engine.generate(
            states, tiny_model.prompts([audio]), tiny_model.options
        )[0]
        return found

    expected = [read(audio) for audio in short_turns]
    with ThreadPoolExecutor(max_workers=3) as pool:
        assert list(pool.map(read, short_turns * 2)) == expected * 2


# -- attention ---------------------------------------------------------------------------------------


def test_stopping_at_a_limit_equals_cutting_the_whole_answer(
    tiny_model: Model, short_turns: list[Pcm16]
) -> None:
    random = np.random.default_rng(0)
    states = tiny_model.spliced(tiny_model.engine, short_turns)
    prompts = tiny_model.prompts(short_turns)
    options = replace(tiny_model.options, attention=True)
    whole = tiny_model.engine.generate(states, prompts, options)
    num_stopped = 0
    for _ in range(6):
        limits = [int(random.integers(0, prompt.num_states + 10)) for prompt in prompts]
        lengths = [int(random.integers(0, len(answer.ids) // 2)) for answer in whole]
        limited = [
            replace(prompt, forced=answer.ids[:length], attention_limit=limit)
            for prompt, answer, length, limit in zip(prompts, whole, lengths, limits, strict=True)
        ]
        found = tiny_model.engine.generate(states, limited, options)
        for answer, length, limit, expected in zip(found, lengths, limits, whole, strict=True):
            reached = [i for i, state in enumerate(expected.attended) if i >= length and state >= limit]
            cut = reached[0] if reached else len(expected.ids)
            assert answer.ids == expected.ids[:cut]
            assert answer.attended == expected.attended[:cut]
            assert answer.ended is not bool(reached)
            num_stopped += bool(reached)
    assert 5 < num_stopped < 30


def test_attention_goes_with_the_audio(base_model: Model, short_turns: list[Pcm16]) -> None:
    states, prompts = base_model.spliced(base_model.engine, short_turns), base_model.prompts(short_turns)
    options = replace(base_model.options, attention=True)
    steps: list[int] = []
    for prompt, answer in zip(prompts, base_model.engine.generate(states, prompts, options), strict=True):
        assert len(answer.attended) == len(answer.ids)
        assert max(answer.attended) < prompt.num_states
        steps.extend(np.diff(answer.attended))
    assert np.mean(np.array(steps) >= -2) > 0.9


# -- drafts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", [False, True])
def test_drafts_change_no_token(tiny_model: Model, short_turns: list[Pcm16], attention: bool) -> None:
    """Of a batch: right, empty, of another text, too long, and right but for one word."""
    engine, options = tiny_model.engine, replace(tiny_model.options, attention=attention)
    states, prompts = tiny_model.spliced(engine, short_turns), tiny_model.prompts(short_turns)
    expected = engine.generate(states, prompts, options)
    right = [answer.ids for answer in expected]
    wrong = (*right[4][:3], 1000, *right[4][4:])
    drafts = [right[0], (), right[0], right[3] * 4, wrong]
    drafted = [replace(prompt, draft=draft) for prompt, draft in zip(prompts, drafts, strict=True)]
    found = engine.generate(states, drafted, options)
    assert all_same(found, expected)
    assert [answer.attended for answer in found] == [answer.attended for answer in expected]
    with pytest.raises(ValueError, match="token ids must be under"):
        engine.generate(states, [replace(prompt, draft=(-1,)) for prompt in prompts], options)


def test_word_times_come_with_the_search(tiny_model: Model, turns: Turns) -> None:
    """Where the text is found when it is read once more, but for what the end token's row changes."""
    engine, options = tiny_model.engine, replace(tiny_model.options, alignment=True)
    audios = [audio for audio, _ in turns if len(audio) < 4 * SAMPLE_RATE_HZ]
    states, prompts = tiny_model.spliced(engine, audios), tiny_model.prompts(audios)
    lengths = [prompt.num_states for prompt in prompts]
    answers = engine.generate(states, prompts, options)
    start = tiny_model.vocabulary.start_sequence("en", Task.TRANSCRIBE)
    again = engine.align(states, start, [answer.ids for answer in answers], lengths)
    near = []
    for answer, expected in zip(answers, again, strict=True):
        assert answer.alignment is not None
        assert answer.alignment.token_probs == pytest.approx(expected.token_probs, abs=2e-3)
        found, read = (dict(reversed(side.path)) for side in (answer.alignment, expected))
        assert found.keys() == read.keys()
        near.extend(abs(found[token] - read[token]) <= 5 for token in found)
    assert np.mean(near) > 0.95
    prompts[0] = replace(prompts[0], start=tiny_model.start(previous="A dialogue."))
    drafted = [replace(prompt, draft=answer.ids) for prompt, answer in zip(prompts, answers, strict=True)]
    for again_found, before in zip(engine.generate(states, drafted, options), answers, strict=True):
        assert again_found.alignment is not None
        assert before.alignment is not None
        assert len(again_found.alignment.token_probs) == len(again_found.ids)
        if before is not answers[0]:
            assert again_found.ids == before.ids
            assert again_found.alignment.path == before.alignment.path
    prompts[0] = replace(prompts[0], start=prompts[1].start)
    forced = [replace(prompt, forced=answer.ids[:3]) for prompt, answer in zip(prompts, answers, strict=True)]
    for whole, before in zip(engine.generate(states, forced, options), answers, strict=True):
        assert whole.alignment is not None
        assert before.alignment is not None
        assert whole.ids == before.ids
        assert whole.alignment.path == before.alignment.path
        assert whole.alignment.token_probs == pytest.approx(before.alignment.token_probs, abs=2e-3)
    beams = engine.generate(states, prompts, replace(options, beam_size=2))
    assert beams[0].alignment is None


def test_a_job_hands_its_draft_to_the_engine(
    tiny_model: Model, short_turns: list[Pcm16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is the same, in fewer calls of the decoder."""
    transcriber = WhisperTranscriber("tiny.en", tiny_model.engine, open_model_folder(tiny_model.path))
    calls: list[int] = []
    decode = tiny_model.engine._model.decode

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return decode(*args, **options)

    monkeypatch.setattr(tiny_model.engine._model, "decode", counted)

    def read(draft: str, *, word_timestamps: bool = False) -> tuple[str, int]:
        calls.clear()
        job = DecodeJob(
            1,
            Role.FINAL,
            short_turns[0],
            language="en",
            draft=draft,
            word_timestamps=word_timestamps,
        )
        [found] = transcriber.transcribe([job])
        assert isinstance(found, Transcript)
        assert bool(found.words) is word_timestamps
        return found.text, len(calls)

    text, num_calls = read("")
    again, num_with_draft = read(text)
    assert again == text
    assert num_with_draft < num_calls - 5
    words, num_with_words = read(text, word_timestamps=True)
    assert (words, num_with_words) == (text, num_with_draft)
    assert read("Something else is said here.")[0] == text
