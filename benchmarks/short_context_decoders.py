"""Whisper with a short encoder context, in every way that is compared, and faster-whisper's full window."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.features import MAX_FRAMES, FloatArray, log_mel
from serve_app.asr.folder import open_model_folder
from serve_app.asr.jobs import Pcm16, Task
from serve_app.asr.silence import room_tone
from serve_app.asr.vocabulary import Vocabulary
from serve_app.asr.windows import MAX_AUDIO_S, WindowPolicy, plan_window
from serve_app.models import resolve_model

FULL = WindowPolicy(full_window=True)


@dataclass(frozen=True, slots=True)
class Setting:
    """A window policy and what is spliced behind the speech.

    `tone`: standard deviation of the white noise whose states are spliced, of full scale; 0 is digital
    silence. `redo_below`: a text whose mean log-probability is less is decoded again in the full window.
    """

    name: str
    policy: WindowPolicy
    tone: float = 0.0
    redo_below: float = -math.inf


def _window(pad_s: float, tail_s: float = MAX_AUDIO_S) -> WindowPolicy:
    return WindowPolicy(pad_s=pad_s, tail_s=tail_s)


SETTINGS = (
    Setting("full window, ours", FULL),
    Setting("silence, pad 0.5, 10 s", _window(0.5, 10.0)),
    Setting("silence, pad 0.5", _window(0.5)),
    Setting("silence, pad 1", _window(1.0)),
    Setting("tone 0.001, pad 1", _window(1.0), tone=0.001),
    Setting("tone 0.005, pad 0.5", _window(0.5), tone=0.005),
    Setting("tone 0.005, pad 1", _window(1.0), tone=0.005),
    Setting("tone 0.005, pad 1.5", _window(1.5), tone=0.005),
    Setting("tone 0.005, pad 2", _window(2.0), tone=0.005),
    Setting("tone 0.005, pad 1, 10 s", _window(1.0, 10.0), tone=0.005),
    Setting("tone 0.01, pad 1", _window(1.0), tone=0.01),
    Setting("tone 0.005, pad 1, redo", _window(1.0), tone=0.005, redo_below=-0.5),
    Setting("tone 0.005, pad 1.5, redo", _window(1.5), tone=0.005, redo_below=-0.5),
    Setting("tone 0.005, pad 2, redo", _window(2.0), tone=0.005, redo_below=-0.5),
)
"""States are spliced up to 30 s in all, or as many seconds as the name says; `redo` means below a mean
log-probability of -0.5."""


class Decoded(NamedTuple):
    """`ran_on`: the token limit stopped it. `redone`: for that or for its doubt, in the full window."""

    text: str
    encode_s: float
    decode_s: float
    ran_on: bool = False
    redone: bool = False


Decode = Callable[[Pcm16], Decoded]


class ShortContext:
    """One model, one thread, and what each setting splices."""

    def __init__(self, model: str, language: str) -> None:
        folder = open_model_folder(resolve_model(model, offline=True).path)
        self._engine = CTranslate2Engine(
            folder.path, device="cpu", compute_type="int8", num_workers=1, threads=1
        )
        shape = self._engine.dimensions
        self._vocabulary = Vocabulary(folder.tokenizer_path, multilingual=shape.multilingual)
        times = self._vocabulary.timestamp_ids(shape.vocabulary_size)
        self._options = DecodeOptions(
            suppressed=(*folder.suppressed, *times), suppressed_first=folder.suppressed_first
        )
        start = self._vocabulary.start_sequence(language, Task.TRANSCRIBE)
        self._start = (*start, self._vocabulary.no_timestamps)
        self._language = language
        self._num_mels = shape.num_mels
        self._tails: dict[float, FloatArray] = {}

    def decode(self, audio: Pcm16, setting: Setting) -> Decoded:
        """At most 30 s of audio."""
        tail = self._tail(setting.tone)
        window = plan_window(len(audio), self._language, setting.policy)
        features = log_mel(audio, window.num_frames, self._num_mels)[None]
        started = time.process_time()
        states = self._engine.encode(features)
        encoded = time.process_time()
        spliced = self._engine.splice(states, tail, window.num_states)
        options = replace(self._options, max_new_tokens=window.max_new_tokens)
        found = self._engine.generate(spliced, [Prompt(self._start, states.shape[1])], options)[0]
        decode_s = time.process_time() - encoded
        encode_s = encoded - started
        doubtful = not found.ended or found.avg_logprob < setting.redo_below
        if doubtful and not setting.policy.full_window:
            again = self.decode(audio, Setting("again", FULL))
            encode_s, decode_s = encode_s + again.encode_s, decode_s + again.decode_s
            return Decoded(again.text, encode_s, decode_s, not found.ended, redone=True)
        return Decoded(self._vocabulary.decode(found.ids).strip(), encode_s, decode_s, not found.ended)

    def _tail(self, tone: float) -> FloatArray:
        if tone not in self._tails:
            features = log_mel(room_tone(MAX_AUDIO_S, tone), MAX_FRAMES, self._num_mels)
            self._tails[tone] = self._engine.encode(features[None])
        return self._tails[tone]


def full_window_peer(model: str, language: str) -> Decode:
    """faster-whisper as its users run it, without time tokens and fallback."""
    from faster_whisper import WhisperModel

    path = resolve_model(model, offline=True).path
    whisper = WhisperModel(str(path), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)
    encode, spent_s = whisper.encode, [0.0]

    def timed(features: FloatArray) -> Any:
        started = time.process_time()
        states = encode(features)
        spent_s[0] += time.process_time() - started
        return states

    whisper.encode = timed

    def decode(audio: Pcm16) -> Decoded:
        started, before_s = time.process_time(), spent_s[0]
        segments, _ = whisper.transcribe(
            audio.astype(np.float32) / 32768,
            language=language,
            beam_size=1,
            temperature=0,
            without_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        text = " ".join(segment.text.strip() for segment in segments)
        encode_s = spent_s[0] - before_s
        return Decoded(text, encode_s, time.process_time() - started - encode_s)

    return decode
