"""One Whisper model on the torch engine and on CTranslate2, for comparing what they give.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.asr.engines.base import DecodeOptions, Engine, Hypothesis, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.engines.torch_engine import TorchEngine
from serve_app.asr.features import MAX_FRAMES, log_mel, num_frames_of
from serve_app.asr.folder import open_model_folder
from serve_app.asr.vocabulary import Vocabulary
from serve_app.core.jobs import Task
from serve_app.core.samples import Pcm16

NUM_FRAMES = 400
NUM_STATES = 450


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


def same(found: Hypothesis, expected: Hypothesis) -> bool:
    return (found.ids, found.ended, found.num_scored) == (
        expected.ids,
        expected.ended,
        expected.num_scored,
    ) and (found.sum_logprob, found.no_speech_prob) == (
        pytest.approx(expected.sum_logprob, abs=5e-3),
        pytest.approx(expected.no_speech_prob, abs=1e-3),
    )
