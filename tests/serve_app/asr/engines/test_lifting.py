"""Terms are lifted whole or not at all, at words' bounds, within their budget; drafts change nothing of
it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fakes.tiny_weights import MELS, WIDTH, converted, tiny_variables
from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.lifting import (
    MAX_NO_SPEECH,
    MIN_LOGPROB,
    SteppedTables,
    search_lifted,
    uses_terms,
)
from serve_app.asr.engines.onnx_decoder import OnnxBatch, OnnxTableDecoder
from serve_app.asr.engines.onnx_files import graphs_of
from serve_app.asr.engines.onnx_model import OnnxWhisper
from serve_app.asr.engines.search import Beginning, IntArray, Step
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.features import FloatArray
from serve_app.asr.keyterms import KeytermTrie, build_trie
from serve_app.core.keyterms import Keyterm

WORDS = "abcd"
SIZE, END = 2 * len(WORDS) + 1, 2 * len(WORDS)
"""Tokens 0 to 3 are letters behind a space, 4 to 7 the same that go on with a word."""
GREEDY = DecodeOptions(max_new_tokens=24)
BUDGET = 4.0


def text_of(token: int) -> str:
    return "" if token == END else f" {WORDS[token]}" if token < 4 else WORDS[token - 4]


def encode(text: str) -> list[int]:
    """Tokens of a text like " ab c"."""
    ids, spaced = [], False
    for char in text.lower():
        if char == " ":
            spaced = True
        else:
            ids.append(WORDS.index(char) + (0 if spaced else 4))
            spaced = False
    return ids


def trie(*terms: str, budget: float = BUDGET, spaced: bool = True) -> KeytermTrie | None:
    return build_trie([Keyterm(t) for t in terms], encode, text_of, spaced=spaced, budget=budget)


def logprobs_behind(text: Sequence[int], seed: int) -> FloatArray:
    """Of every next token: another row for every text."""
    rng = np.random.default_rng([seed, len(text), *text])
    logits = rng.normal(0, 2, SIZE)
    logits[END] -= 3 - len(text) / 4
    found: FloatArray = (logits - np.log(np.exp(logits).sum())).astype(np.float32)
    return found


class Tables:
    """A decoder whose next token depends on all before it: any that is wrong changes all that follow."""

    def __init__(self, prompts: Sequence[Prompt], seed: int, no_speech: float = 0.0) -> None:
        self.rows = [[*prompt.start, *prompt.forced] for prompt in prompts]
        self.num_prompt = [len(row) for row in self.rows]
        self.seed, self.no_speech = seed, no_speech
        self.num_calls = 0

    def begin(self, guesses: Sequence[Sequence[int]]) -> tuple[list[FloatArray], FloatArray]:
        return self._read(guesses), np.full(len(self.rows), self.no_speech, dtype=np.float32)

    def read(self, tokens: Sequence[int], guesses: Sequence[Sequence[int]]) -> list[FloatArray]:
        for row, token in zip(self.rows, tokens, strict=True):
            row.append(token)
        return self._read(guesses)

    def keep(self, rows: Sequence[int], num_guessed: Sequence[int]) -> None:
        kept = []
        self.num_prompt = [self.num_prompt[row] for row in rows]
        for row, num, least in zip(rows, num_guessed, self.num_prompt, strict=True):
            all_read = [*self.rows[row], *self.guesses[row]]
            length = len(self.rows[row]) + num
            assert least <= length <= len(all_read)
            kept.append(all_read[:length])
        self.rows = kept

    def _read(self, guesses: Sequence[Sequence[int]]) -> list[FloatArray]:
        self.guesses = guesses
        self.num_calls += 1
        longest = max(map(len, guesses))
        return [
            np.stack([logprobs_behind([*row, *guess[:n]], self.seed) for n in range(longest + 1)])
            for row, guess in zip(self.rows, guesses, strict=True)
        ]


class Steps:
    """The same, a token a step."""

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self.tables = Tables(prompts, seed)

    def begin(self, draws: object) -> Beginning:
        tables, probs = self.tables.begin([()] * len(self.tables.rows))
        return Beginning(self._step(tables), probs)

    def step(self, tokens: IntArray, draws: object) -> Step:
        return self._step(self.tables.read([int(token) for token in tokens], [()] * len(tokens)))

    def select(self, rows: IntArray) -> None:
        self.tables.keep([int(row) for row in rows], [0] * len(rows))

    @staticmethod
    def _step(tables: Sequence[FloatArray]) -> Step:
        table = np.concatenate(tables)
        return Step(table.argmax(axis=1)[:, None], table.max(axis=1)[:, None], table=table)


def prompt(terms: KeytermTrie | None, forced: Sequence[int] = (), draft: Sequence[int] = ()) -> Prompt:
    return Prompt((1,), 10, forced=tuple(forced), draft=tuple(draft), terms=terms)


def texts(prompts: Sequence[Prompt], seed: int, options: DecodeOptions = GREEDY) -> list[tuple[int, ...]]:
    found = search_lifted(Tables(prompts, seed), prompts, options, start=1, end=END)
    return [one.ids for one in found]


terms = st.lists(
    st.text(WORDS + " ", min_size=1, max_size=6).map(lambda t: " ".join(t.split())).filter(bool), max_size=8
)
tokens = st.lists(st.integers(0, SIZE - 1), max_size=30)
seeds = st.integers(0, 10_000)


@given(terms, seeds, st.lists(tokens, min_size=1, max_size=4), st.data())
@settings(max_examples=300, deadline=None)
def test_drafts_change_nothing(expected, seed, noise, data):
    """Batches of different drafts, hostile ones and those that are the answer with some of it changed."""
    known = trie(*expected)
    [alone] = texts([prompt(known)], seed)
    drafts = list(noise)
    cut = data.draw(st.integers(0, len(alone)))
    drafts.append([*alone[:cut], *data.draw(tokens)[:2], *alone[cut + data.draw(st.integers(0, 2)) :]])
    prompts = [prompt(known, draft=draft) for draft in drafts]
    assert texts(prompts, seed) == [alone] * len(prompts)


@given(terms, seeds, tokens, st.floats(0.5, 12))
@settings(max_examples=300, deadline=None)
def test_what_is_not_the_likeliest_is_a_whole_term_within_its_budget(expected, seed, forced, budget):
    forced = [token for token in forced if token != END][:5]
    known = trie(*expected, budget=budget)
    [ids] = texts([prompt(known, forced)], seed)
    rows = [logprobs_behind([1, *ids[:n]], seed) for n in range(len(ids) + 1)]
    prices = [float(row.max() - row[token]) for row, token in zip(rows, ids, strict=False)]
    covered: set[int] = set()
    spelled = {tuple(encode(lead + term)) for term in expected for lead in (" ", "")}
    for first in range(len(ids)):
        for spelling in spelled:
            behind = first + len(spelling)
            follows = ids[behind] if behind < len(ids) else END
            within = behind <= len(ids) and ids[first:behind] == spelling
            begins = spelling[0] < 4 or first == 0
            ends = follows < 4 or follows == END
            price = sum(prices[max(first, len(forced)) : behind])
            if within and begins and ends and price <= budget + 1e-4:
                covered |= set(range(first, behind))
    lifted = {n for n in range(len(forced), len(ids)) if ids[n] != int(rows[n].argmax())}
    assert lifted <= covered
    assert all(rows[n][ids[n]] >= MIN_LOGPROB for n in lifted)


@given(terms, seeds)
@settings(max_examples=100, deadline=None)
def test_without_terms_or_budget_the_likeliest_tokens_are_written(expected, seed):
    ids: list[int] = []
    while len(ids) < GREEDY.max_new_tokens:
        token = int(logprobs_behind([1, *ids], seed).argmax())
        if token == END:
            break
        ids.append(token)
    bare, poor = prompt(None), prompt(trie(*expected, budget=0.0))
    assert texts([bare, poor], seed) == [tuple(ids)] * 2
    doubted = Tables([bare], seed, MAX_NO_SPEECH + 0.01)
    [deaf] = search_lifted(doubted, [prompt(trie(*expected))], GREEDY, start=1, end=END)
    assert deaf.ids == tuple(ids)


@given(terms, seeds, st.lists(tokens, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_decoder_that_reads_a_token_a_step_writes_the_same(expected, seed, forced):
    known = trie(*expected)
    prompts = [prompt(known, [t for t in one if t != END][:4], draft=(1, 2, 3)) for one in forced]
    tables = SteppedTables(lambda items, given: Steps(given, seed), prompts)
    found = search_lifted(tables, prompts, GREEDY, start=1, end=END)
    assert [one.ids for one in found] == texts(prompts, seed)


class Scripted(Tables):
    """Rows by text: {(tokens so far): {token: log-probability}}; what is not named is unlikely."""

    def __init__(self, script: dict[str, dict[str, float]]) -> None:
        super().__init__([prompt(None)], 0)
        self.script = {tuple(encode(text)): row for text, row in script.items()}

    def _read(self, guesses: Sequence[Sequence[int]]) -> list[FloatArray]:
        self.guesses = guesses
        self.num_calls += 1
        [row], [guess] = self.rows, guesses
        table = np.full((len(guess) + 1, SIZE), -20.0, dtype=np.float32)
        for n in range(len(guess) + 1):
            known = self.script.get((*row[1:], *guess[:n])) or {"": LIKELY}
            for text, logprob in known.items():
                table[n, encode(text)[0] if text else END] = logprob
        return [table]


LIKELY, RARE = -0.1, -2.5


@pytest.mark.parametrize(
    ("script", "expected", "written"),
    [
        # A term whose first token is the less likely one, and whose rest follows by itself.
        ({"": {" a": LIKELY, " b": RARE}, " b": {"c": LIKELY}}, ["bc"], " bc"),
        # The rest does not follow.
        ({"": {" a": LIKELY, " b": RARE}, " b": {" d": LIKELY}}, ["bc"], " a"),
        # The word goes on behind it.
        ({"": {" a": LIKELY, " b": RARE}, " b": {"c": LIKELY}, " bc": {"d": LIKELY}}, ["bc"], " a"),
        # Another word follows.
        (
            {"": {" a": LIKELY, " b": RARE}, " b": {"c": LIKELY}, " bc": {" d": LIKELY}},
            ["bc"],
            " bc d",
        ),
        # Each token is affordable, all of them together are not.
        ({"": {" a": LIKELY, " b": RARE}, " b": {" d": LIKELY, "c": RARE}}, ["bc"], " a"),
        # Within a word no term begins.
        ({"": {" a": LIKELY}, " a": {"d": LIKELY, "b": RARE}, " ad": {}}, ["b"], " ad"),
        # A term of several words; its begin alone is a term too.
        (
            {"": {" a": LIKELY, " b": RARE}, " b": {" d": LIKELY, " c": -1.5}, " b c": {"": LIKELY}},
            ["b", "b c"],
            " b c",
        ),
        # No term behind the end.
        ({"": {" a": LIKELY}, " a": {"": LIKELY, " b": RARE}}, ["b"], " a"),
    ],
)
def test_terms_are_taken_back(script, expected, written):
    known = trie(*expected)
    decoder = Scripted(script)
    decoder.rows = [[1]]
    [found] = search_lifted(decoder, [prompt(known)], GREEDY, start=1, end=END)
    assert found.ids == tuple(encode(written))


def test_a_term_begun_is_read_in_one_call():
    script = {"": {" a": LIKELY, " b": RARE}, " b": {"c": LIKELY}, " bc": {"d": LIKELY}, " bcd": {"": LIKELY}}
    decoder = Scripted(script)
    [found] = search_lifted(decoder, [prompt(trie("bcd"))], GREEDY, start=1, end=END)
    assert (found.ids, decoder.num_calls) == (tuple(encode(" bcd")), 2)


def test_a_lifted_token_counts_as_the_likeliest():
    script = {"": {" a": LIKELY, " b": RARE}, " b": {"": LIKELY}}
    [found] = search_lifted(Scripted(script), [prompt(trie("b"))], GREEDY, start=1, end=END)
    assert found.sum_logprob == pytest.approx(LIKELY + LIKELY)


def test_words_without_spaces_between_them_begin_anywhere():
    script = {"": {"a": LIKELY}, "a": {"d": LIKELY, "b": RARE}, "ab": {"d": LIKELY}, "ad": {}}
    answers = [
        search_lifted(Scripted(script), [prompt(trie("b", spaced=spaced))], GREEDY, start=1, end=END)[0].ids
        for spaced in (True, False)
    ]
    assert answers == [tuple(encode("ad")), tuple(encode("abd"))]


# -- engines ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with room for some text."""
    path = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(5)
    positions = random.normal(size=(96, WIDTH)).astype("<f2")
    converted(path, tiny_variables() | {"decoder/position_encodings/encodings": positions})
    return path


def features() -> FloatArray:
    return np.random.default_rng(6).normal(size=(4, MELS, 8)).astype(np.float32)


batches = st.lists(st.tuples(terms, tokens.filter(bool), tokens), min_size=1, max_size=4)
OPTIONS = DecodeOptions(max_new_tokens=24, suppressed=(3,), suppressed_first=(END, 1))


def prompts_of(batch: Sequence[tuple[list[str], list[int], list[int]]]) -> list[Prompt]:
    return [
        Prompt(tuple(start[:3]), 4, forced=tuple(start[3:6]), draft=tuple(draft), terms=trie(*expected))
        for expected, start, draft in batch
    ]


@pytest.fixture(scope="module")
def on_onnx(folder: Path) -> tuple[OnnxWhisper, FloatArray]:
    model = OnnxWhisper(graphs_of(folder, "float32", folder / "cache"), read_weights(folder).shape, threads=1)
    return model, model.project(model.encode(features()))


def on_onnxruntime(found: tuple[OnnxWhisper, FloatArray], prompts: Sequence[Prompt]) -> list[Hypothesis]:
    model, audio = found
    audio = audio[:, : len(prompts)]
    batch = OnnxBatch(model, audio, prompts, OPTIONS, start=prompts[0].start[0], no_speech=2)
    return search_lifted(OnnxTableDecoder(batch), prompts, OPTIONS, start=1, end=END)


@given(batches)
@settings(max_examples=60, deadline=None)
def test_onnxruntime_writes_the_same_with_drafts_and_alone(
    on_onnx: tuple[OnnxWhisper, FloatArray], batch: list[tuple[list[str], list[int], list[int]]]
) -> None:
    prompts = prompts_of(batch)
    drafted = on_onnxruntime(on_onnx, prompts)
    plain = on_onnxruntime(on_onnx, [replace(one, draft=()) for one in prompts])
    assert [one.ids for one in drafted] == [one.ids for one in plain]


@pytest.mark.extras
def test_torch_writes_what_onnxruntime_writes(folder: Path, on_onnx: tuple[OnnxWhisper, FloatArray]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from serve_app.asr.engines.torch_decoder import EagerRunner, TorchBatch, TorchStepDecoder
    from serve_app.asr.engines.torch_model import TorchWhisper

    model = TorchWhisper(read_weights(folder), torch.device("cpu"), torch.float32)

    @given(batches)
    @settings(max_examples=30, deadline=None)
    def check(batch: list[tuple[list[str], list[int], list[int]]]) -> None:
        prompts = prompts_of(batch)
        assume(uses_terms(prompts, OPTIONS))

        def decoder(items: Sequence[int], given: Sequence[Prompt]) -> TorchStepDecoder:
            audio = model.project(model.encode(torch.from_numpy(features()[list(items)])))
            lengths = [len(one.start) + len(one.forced) for one in given]
            padding = [max(lengths) - length for length in lengths]
            runner = EagerRunner(model, audio, padding, 96, attention=False)
            start = prompts[0].start[0]
            return TorchStepDecoder(TorchBatch(model, runner, given, OPTIONS, start=start, no_speech=2))

        with torch.inference_mode():
            found = search_lifted(SteppedTables(decoder, prompts), prompts, OPTIONS, start=1, end=END)
        assert [one.ids for one in found] == [one.ids for one in on_onnxruntime(on_onnx, prompts)]

    check()


@pytest.mark.parametrize(
    ("options", "used"),
    [
        (GREEDY, True),
        (replace(GREEDY, beam_size=2), False),
        (replace(GREEDY, temperature=0.4), False),
        (replace(GREEDY, attention=True), False),
    ],
)
def test_beams_samples_and_attention_do_without(options, used):
    assert uses_terms([prompt(trie("a")), prompt(None)], options) is used
    assert not uses_terms([prompt(None)], options)
