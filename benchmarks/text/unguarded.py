"""Whisper without any guard: what it says of a window, and the time that its encoder and decoder take."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.features import MAX_FRAMES, FloatArray, log_mel
from serve_app.asr.folder import open_model_folder
from serve_app.asr.heard import ROOM_TONE_LEVEL, room_tone
from serve_app.asr.vocabulary import Vocabulary
from serve_app.asr.windows import MAX_AUDIO_S, WindowPolicy, plan_window
from serve_app.core.jobs import Task
from serve_app.core.samples import Pcm16
from serve_app.models import resolve_model


class UnguardedText(NamedTuple):
    """One window's text; `ended` is False where the token limit stopped it. CPU seconds."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    ended: bool
    encode_s: float
    decode_s: float


class UnguardedWhisper:
    """One model on CTranslate2, int8, one worker of one thread."""

    def __init__(self, model: str) -> None:
        folder = open_model_folder(resolve_model(model, offline=True).path)
        self._engine = CTranslate2Engine(folder.path, device="cpu", compute_type="int8")
        shape = self._engine.dimensions
        self.multilingual = shape.multilingual
        self._vocabulary = Vocabulary(folder.tokenizer_path, multilingual=shape.multilingual)
        times = self._vocabulary.timestamp_ids(shape.vocabulary_size)
        self._options = DecodeOptions(
            suppressed=(*folder.suppressed, *times), suppressed_first=folder.suppressed_first
        )
        self._num_mels = shape.num_mels
        self._tails: dict[float, FloatArray] = {}

    def decode(
        self,
        audio: Pcm16,
        language: str,
        policy: WindowPolicy,
        *,
        tone: float = ROOM_TONE_LEVEL,
        temperature: float = 0.0,
        beam_size: int = 1,
    ) -> UnguardedText:
        """At most 30 s of audio. The states of white noise of `tone` (standard deviation, of full scale) are
        spliced behind it."""
        tail = self._tail(tone)
        window = plan_window(len(audio), language, policy)
        features = log_mel(audio, window.num_frames, self._num_mels)[None]
        started = time.process_time()
        states = self._engine.encode(features)
        encoded = time.process_time()
        spliced = self._engine.splice(states, tail, window.num_states)
        start = self._vocabulary.start_sequence(language, Task.TRANSCRIBE)
        prompt = Prompt((*start, self._vocabulary.no_timestamps), self._engine.num_states(states))
        options = replace(
            self._options,
            max_new_tokens=window.max_new_tokens,
            temperature=temperature,
            beam_size=beam_size,
        )
        found = self._engine.generate(spliced, [prompt], options)[0]
        decode_s = time.process_time() - encoded
        text = self._vocabulary.decode(found.ids).strip()
        return UnguardedText(
            text, found.avg_logprob, found.no_speech_prob, found.ended, encoded - started, decode_s
        )

    def _tail(self, tone: float) -> FloatArray:
        if tone not in self._tails:
            features = log_mel(room_tone(MAX_AUDIO_S, tone), MAX_FRAMES, self._num_mels)
            self._tails[tone] = self._engine.encode(features[None])
        return self._tails[tone]
