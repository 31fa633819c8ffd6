"""How words to expect reach an engine: in the prompt, in the search, or both; no sound becomes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.text.keyterms import sounds
from serve_app.asr.engines.base import Capabilities, DecodeOptions, Dimensions, Hypothesis, Prompt
from serve_app.asr.engines.onnx_engine import OnnxEngine
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.folder import open_model_folder
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.core.jobs import DecodeJob, Role, Transcript
from serve_app.core.keyterms import KeytermMethod

pytestmark = pytest.mark.models

JOB = DecodeJob(
    0,
    Role.FINAL,
    np.random.default_rng(0).normal(0, 3000, 48_000).astype(np.int16),
    "en",
    hotwords="Sotto:2, Ray",
)


class Engine:
    """Takes note of the prompts."""

    dimensions = Dimensions(80, 51_864, multilingual=False)

    def __init__(self, *, terms: bool) -> None:
        self.capabilities = Capabilities(
            "fake", "cpu", "float32", ("float32",), True, True, True, True, 5, terms=terms
        )
        self.prompts: list[Prompt] = []

    def encode(self, features: Any) -> Any:
        return features

    def num_states(self, states: Any) -> int:
        return 1500

    def splice(self, states: Any, silence: Any, num_states: int) -> Any:
        return states

    def take(self, states: Any, rows: Sequence[int]) -> Any:
        return states[list(rows)]

    def generate(self, states: Any, prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        self.prompts.extend(prompts)
        return [Hypothesis((), -0.1, 1, 0.0, ended=True) for _ in prompts]


@pytest.mark.parametrize(
    ("method", "job", "can", "prompted", "lifted"),
    [
        (KeytermMethod.LIFT, JOB, True, False, True),
        (KeytermMethod.PROMPT, JOB, True, True, False),
        (KeytermMethod.BOTH, JOB, True, True, True),
        (KeytermMethod.LIFT, JOB, False, True, False),
        (KeytermMethod.LIFT, replace(JOB, beam_size=5), True, True, False),
        (KeytermMethod.LIFT, replace(JOB, temperature=0.4), True, True, False),
        (KeytermMethod.LIFT, replace(JOB, hotwords=""), True, False, False),
    ],
)
def test_terms_reach_the_engine(
    tiny_folder: Path, method: KeytermMethod, job: DecodeJob, can: bool, prompted: bool, lifted: bool
) -> None:
    engine = Engine(terms=can)
    options = TranscriberOptions(guards=GuardOptions(enabled=False), keyterms=method)
    transcriber: Any = WhisperTranscriber("tiny.en", engine, open_model_folder(tiny_folder), options)  # type: ignore[arg-type]
    transcriber.transcribe([job])
    [first, *_] = engine.prompts
    text = transcriber._vocabulary.decode(first.start)
    assert ("Sotto, Ray" in text, first.terms is not None) == (prompted, lifted)
    if first.terms is not None:
        budgets = {
            transcriber._vocabulary.text_of(token): node.budget
            for token, node in first.terms.behind_space.children.items()
        }
        assert budgets[" Ray"] * 2 == budgets[" S"]


def test_no_term_comes_out_of_a_sound_without_words(tiny_folder: Path, tmp_path: Path) -> None:
    guards = GuardOptions(ask_voice=partial(voice_of, detector=load_detector("silero")))
    engine = OnnxEngine(tiny_folder, cache_dir=tmp_path)
    tiny = WhisperTranscriber(
        "tiny.en", engine, open_model_folder(tiny_folder), TranscriberOptions(guards=guards)
    )
    terms = "Metoprolol, Ray, Siobhan Kearney, Ljubljana, Thank you, You"
    for sound in sounds()[:24:3]:
        [found] = tiny.transcribe([replace(JOB, audio=sound, hotwords=terms)])
        assert isinstance(found, Transcript)
        assert not found.text
