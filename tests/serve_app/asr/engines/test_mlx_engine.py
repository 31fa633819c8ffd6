"""MLX gives what CTranslate2 gives in float32, whatever it is batched with and whichever thread asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="mlx is not installed")

import mlx.core as mx

from serve_app.asr.engines.base import DecodeOptions, Engine, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.engines.mlx_engine import MlxEngine
from serve_app.asr.engines.mlx_model import log_softmax
from serve_app.asr.features import MAX_FRAMES, FloatArray, log_mel
from serve_app.asr.vocabulary import Vocabulary
from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import Pcm16

pytestmark = pytest.mark.extras

NUM_FRAMES = 400
NUM_STATES = 260
SILENT_FRAMES = 2 * NUM_STATES
"""Silence is encoded as far as it is spliced only: MLX is slow on a CPU."""

Speech = Callable[..., Pcm16]


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> MlxEngine:
    return MlxEngine(tiny_folder, compute_type="float32")


@pytest.fixture(scope="module")
def reference(tiny_folder: Path) -> CTranslate2Engine:
    return CTranslate2Engine(tiny_folder, device="cpu", compute_type="float32")


@pytest.fixture(scope="module")
def vocabulary(tiny_folder: Path) -> Vocabulary:
    return Vocabulary(tiny_folder / "tokenizer.json", multilingual=False)


@pytest.fixture(scope="module")
def features(turns: list[tuple[Pcm16, str]]) -> FloatArray:
    """Two turns of less than 4 s."""
    short = [audio for audio, _ in turns if len(audio) < NUM_FRAMES * 160]
    return np.stack([log_mel(audio, NUM_FRAMES) for audio in short[:2]])


def spliced(engine: Engine, features: FloatArray) -> Any:
    silence = engine.encode(log_mel(np.zeros(0, np.int16), SILENT_FRAMES)[None])
    return engine.splice(engine.encode(features), silence, NUM_STATES)


@pytest.fixture(scope="module")
def states(engine: MlxEngine, features: FloatArray) -> Any:
    return spliced(engine, features)


@pytest.fixture(scope="module")
def reference_states(reference: CTranslate2Engine, features: FloatArray) -> FloatArray:
    array: FloatArray = spliced(reference, features)
    return array


@pytest.fixture(scope="module")
def options(engine: MlxEngine, vocabulary: Vocabulary) -> DecodeOptions:
    return DecodeOptions(
        max_new_tokens=40,
        suppressed=tuple(vocabulary.timestamp_ids(engine.dimensions.vocabulary_size)),
        suppressed_first=(220, vocabulary.end),
    )


@pytest.fixture(scope="module")
def prompts(vocabulary: Vocabulary) -> list[Prompt]:
    start = (vocabulary.start, vocabulary.no_timestamps)
    return [Prompt(start, 170), Prompt(start, 190)]


def test_states_are_those_of_ctranslate2(
    engine: MlxEngine, states: Any, reference_states: FloatArray, reference: CTranslate2Engine
) -> None:
    assert engine.dimensions == reference.dimensions
    assert engine.num_states(states) == NUM_STATES
    own = np.array(states.own)
    np.testing.assert_allclose(own, reference_states[:, : own.shape[1]], atol=2e-4)
    np.testing.assert_array_equal(np.array(engine.take(states, [1]).own), own[1:])
    assert engine.splice(states, states, NUM_STATES) is states


@pytest.mark.parametrize("beam_size", [1, 2])
def test_text_and_scores_are_those_of_ctranslate2(
    engine: MlxEngine,
    reference: CTranslate2Engine,
    states: Any,
    reference_states: FloatArray,
    prompts: list[Prompt],
    options: DecodeOptions,
    beam_size: int,
) -> None:
    options = replace(options, beam_size=beam_size)
    ours = engine.generate(states, prompts, options)
    theirs = reference.generate(reference_states, prompts, options)
    assert [answer.ids for answer in ours] == [answer.ids for answer in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert len(our.ids) > 10
        assert (our.ended, our.num_scored) == (their.ended, their.num_scored)
        assert our.sum_logprob == pytest.approx(their.sum_logprob, abs=0.02)
        assert our.no_speech_prob == pytest.approx(their.no_speech_prob, abs=1e-4)


def test_a_batch_of_different_prompts_gives_what_its_items_give_alone(
    engine: MlxEngine, states: Any, vocabulary: Vocabulary, prompts: list[Prompt], options: DecodeOptions
) -> None:
    previous = (vocabulary.previous, *vocabulary.encode("Good afternoon, doctor."))
    plain = engine.generate(states, prompts, options)
    mixed = [
        replace(prompts[0], forced=plain[0].ids[:4]),
        replace(prompts[1], start=(*previous, *prompts[1].start)),
    ]
    options = replace(options, attention=True)
    together = engine.generate(states, mixed, options)
    assert together[0].ids == plain[0].ids
    assert together[0].num_scored == plain[0].num_scored - 4
    for row, prompt in enumerate(mixed):
        (alone,) = engine.generate(engine.take(states, [row]), [prompt], options)
        assert together[row].ids == alone.ids
        assert together[row].attended == alone.attended
        assert together[row].sum_logprob == pytest.approx(alone.sum_logprob, abs=1e-3)
        assert together[row].no_speech_prob == pytest.approx(alone.no_speech_prob, abs=1e-4)


def test_attended_states_follow_the_speech_and_stop_it(
    engine: MlxEngine, states: Any, prompts: list[Prompt], options: DecodeOptions
) -> None:
    options = replace(options, attention=True)
    free = engine.generate(states, prompts, options)
    for answer, prompt in zip(free, prompts, strict=True):
        assert len(answer.attended) == len(answer.ids)
        assert max(answer.attended) < prompt.num_states
        rising = [after >= before for before, after in pairwise(answer.attended)]
        assert sum(rising) >= 0.9 * len(rising)
    limited = engine.generate(states, [replace(prompt, attention_limit=100) for prompt in prompts], options)
    for answer, whole in zip(limited, free, strict=True):
        safe = sum(1 for state in whole.attended if state < 100)
        assert 0 < len(answer.ids) < len(whole.ids)
        assert answer.ids == whole.ids[: len(answer.ids)]
        assert len(answer.ids) <= safe
        assert not answer.ended


def test_torch_attends_to_the_same_states(
    engine: MlxEngine, tiny_folder: Path, features: FloatArray, prompts: list[Prompt], options: DecodeOptions
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from serve_app.asr.engines.torch_engine import TorchEngine

    torch_engine = TorchEngine(tiny_folder, device="cpu", compute_type="float32")
    options = replace(options, attention=True)
    ours = engine.generate(spliced(engine, features[:1]), prompts[:1], options)
    theirs = torch_engine.generate(spliced(torch_engine, features[:1]), prompts[:1], options)
    assert ours[0].ids == theirs[0].ids
    assert ours[0].attended == theirs[0].attended
    assert ours[0].sum_logprob == pytest.approx(theirs[0].sum_logprob, abs=2e-4)


def test_alignment_is_that_of_ctranslate2(
    engine: MlxEngine,
    reference: CTranslate2Engine,
    states: Any,
    reference_states: FloatArray,
    vocabulary: Vocabulary,
) -> None:
    texts = [vocabulary.encode("Good morning, please have a seat."), vocabulary.encode("I have had a cold.")]
    lengths = [170, 190]
    ours = engine.align(states, [vocabulary.start], texts, lengths)
    theirs = reference.align(reference_states, [vocabulary.start], texts, lengths)
    for our, their in zip(ours, theirs, strict=True):
        assert our.path == their.path
        np.testing.assert_allclose(our.token_probs, their.token_probs, atol=2e-3)
    none, some = engine.align(states, [vocabulary.start], [[], texts[1]], lengths)
    assert (none.path, none.token_probs) == ((), ())
    assert some.path == ours[1].path


def test_a_sample_comes_again_and_differs_from_the_best(
    engine: MlxEngine, states: Any, prompts: list[Prompt], options: DecodeOptions
) -> None:
    one = engine.take(states, [0])
    warm = replace(options, temperature=2.0, max_new_tokens=8)
    first, again = (engine.generate(one, prompts[:1], warm)[0] for _ in range(2))
    (best,) = engine.generate(one, prompts[:1], replace(options, max_new_tokens=8))
    assert first == again
    assert first.ids != best.ids
    assert best.ids
    assert not best.ended


def test_each_call_may_come_from_another_thread(
    tiny_folder: Path, engine: MlxEngine, features: FloatArray, prompts: list[Prompt], options: DecodeOptions
) -> None:
    options = replace(options, max_new_tokens=4)
    short = [replace(prompt, num_states=100) for prompt in prompts]

    def in_a_thread(ask: Callable[[], Any]) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(ask).result()

    fresh = in_a_thread(lambda: MlxEngine(tiny_folder, compute_type="float32"))
    states = in_a_thread(lambda: fresh.encode(features[:, :, :200]))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: fresh.generate(states, short, options), range(2)))
    expected = engine.generate(engine.encode(features[:, :, :200]), short, options)
    assert answers == [expected, expected]


def test_float16_gives_the_same_text(
    engine: MlxEngine, tiny_folder: Path, features: FloatArray, prompts: list[Prompt], options: DecodeOptions
) -> None:
    half = MlxEngine(tiny_folder, compute_type="float16")
    assert half.capabilities.compute_type == "float16"
    answers = [
        one.generate(one.encode(features[:1, :, :200]), [replace(prompts[0], num_states=100)], options)[0]
        for one in (half, engine)
    ]
    assert answers[0].ids == answers[1].ids
    assert answers[0].sum_logprob == pytest.approx(answers[1].sum_logprob, abs=0.1)


def test_the_language_is_detected_as_ctranslate2_does(base_folder: Path, speech: Speech) -> None:
    engine = MlxEngine(base_folder)
    reference = CTranslate2Engine(base_folder, device="cpu", compute_type="float32")
    vocabulary = Vocabulary(base_folder / "tokenizer.json", multilingual=True)
    features = log_mel(speech("visit.flac", 0.5, 2.5), 200)[None]
    (ours,) = engine.detect_language(engine.encode(features), vocabulary.languages)
    (theirs,) = reference.detect_language(reference.encode(features), vocabulary.languages)
    assert engine.dimensions.multilingual
    assert ours.keys() == theirs.keys()
    assert sum(ours.values()) == pytest.approx(1.0, abs=1e-4)
    assert max(ours, key=lambda code: ours[code]) == max(theirs, key=lambda code: theirs[code]) == "en"
    np.testing.assert_allclose([ours[code] for code in theirs], list(theirs.values()), atol=2e-3)


def test_log_softmax_keeps_its_digits_over_a_whole_vocabulary() -> None:
    scores = np.random.default_rng(0).normal(0, 3, (2, 51_865)).astype(np.float32)
    scores[:, 7_000:9_000] = -np.inf
    exact = scores - np.log(np.exp(scores.astype(np.float64)).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(np.array(log_softmax(mx.array(scores))), exact, atol=1e-5)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 80, 3), (1, 80, 0), (1, 80, MAX_FRAMES + 2), (1, 128, 200), (80, 200)])
def test_unfit_features_are_refused(engine: MlxEngine, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        engine.encode(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt((), 1), "0 tokens"),
        (Prompt((1,) * 448, 1), "448 tokens"),
        (Prompt((1, 51_864), 1), "token ids"),
        (Prompt((1,), 1, forced=(-1,)), "token ids"),
        (Prompt((1,), NUM_STATES + 1), "states"),
    ],
)
def test_unfit_prompts_are_refused(engine: MlxEngine, states: Any, prompt: Prompt, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine.generate(states, [prompt, prompt], DecodeOptions())


def test_counts_must_match(engine: MlxEngine, states: Any) -> None:
    with pytest.raises(ValueError, match="1 prompts for 2 items"):
        engine.generate(states, [Prompt((1,), 1)], DecodeOptions())
    with pytest.raises(ValueError, match="for 2 items"):
        engine.align(states, [1], [[1]], [1])


@pytest.mark.parametrize("text", [[51_864], [50_256], [1] * 446])
def test_unfit_texts_are_not_aligned(engine: MlxEngine, states: Any, text: list[int]) -> None:
    with pytest.raises(ValueError, match=r"ids|special tokens|expected up to"):
        engine.align(states, [50_257], [text, [1]], [10, 10])


def test_an_unknown_compute_type_becomes_the_default(tmp_path: Path, tiny_folder: Path) -> None:
    assert MlxEngine(tiny_folder, compute_type="int8").capabilities.compute_type in ("float16", "float32")
    with pytest.raises(ModelUnavailable):
        MlxEngine(tmp_path)
