"""One Whisper model on an engine of our own and on CTranslate2, for comparing what they give."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.asr.engines.base import DecodeOptions, Engine, Hypothesis, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.features import MAX_FRAMES, log_mel, num_frames_of
from serve_app.asr.folder import open_model_folder
from serve_app.asr.ports import ModelToLoad
from serve_app.asr.vocabulary import Vocabulary
from serve_app.core.jobs import Task
from serve_app.core.samples import Pcm16

NUM_FRAMES = 400
NUM_STATES = 450


def load_engine(name: str, path: Path, cache_dir: Path, compute_type: str = "float32") -> Any:
    """On the CPU. Skips the test where the engine is not installed."""
    if name != "onnx":
        pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[name], reason=f"{name} is not installed")
    module = import_module(f"serve_app.asr.engines.{name}_engine")
    return module.load(
        ModelToLoad(path.name, path, device="cpu", compute_type=compute_type, cache_dir=cache_dir)
    )


class Model:
    """One model on both engines."""

    def __init__(self, name: str, path: Path, cache_dir: Path) -> None:
        self.path = path
        self.folder = open_model_folder(path)
        self.engine = load_engine(name, path, cache_dir)
        self.reference = CTranslate2Engine(path, device="cpu", compute_type="float32")
        self.both: tuple[Engine, Engine] = (self.engine, self.reference)
        self.vocabulary = Vocabulary(self.folder.tokenizer_path, multilingual=self.folder.multilingual)
        times = self.vocabulary.timestamp_ids(self.reference.dimensions.vocabulary_size)
        self.options = DecodeOptions(
            max_new_tokens=60,
            suppressed=(*self.folder.suppressed, *times),
            suppressed_first=self.folder.suppressed_first,
        )
        self._silence = {id(engine): engine.encode(SILENCE) for engine in self.both}

    def start(
        self, language: str = "en", task: Task = Task.TRANSCRIBE, previous: str = ""
    ) -> tuple[int, ...]:
        before = [self.vocabulary.previous, *self.vocabulary.encode(previous)] if previous else []
        start = self.vocabulary.start_sequence(language, task)
        return (*before, *start, self.vocabulary.no_timestamps)

    def spliced(self, engine: Engine, audios: Sequence[Pcm16]) -> Any:
        return engine.splice(engine.encode(mels(audios)), self._silence[id(engine)], NUM_STATES)

    def prompts(self, audios: Sequence[Pcm16]) -> list[Prompt]:
        return [Prompt(self.start(), states_of(audio)) for audio in audios]


SILENCE = log_mel(np.zeros(0, np.int16), MAX_FRAMES)[None]


def mels(audios: Sequence[Pcm16]) -> Any:
    return np.stack([log_mel(audio, NUM_FRAMES) for audio in audios])


def states_of(audio: Pcm16) -> int:
    return num_frames_of(len(audio)) // 2


def same(found: Hypothesis, expected: Hypothesis) -> bool:
    return (found.ids, found.ended, found.num_scored) == (
        expected.ids,
        expected.ended,
        expected.num_scored,
    ) and (found.sum_logprob, found.no_speech_prob) == (
        pytest.approx(expected.sum_logprob, abs=5e-3),
        pytest.approx(expected.no_speech_prob, abs=1e-3),
    )


def all_same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> bool:
    return all(same(*pair) for pair in zip(found, expected, strict=True))
