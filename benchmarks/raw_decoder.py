"""What Whisper says of a window with no guard in between: to see what the guards are there for."""

from __future__ import annotations

from dataclasses import replace

from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.features import MAX_FRAMES, log_mel, num_frames_of
from serve_app.asr.folder import open_model_folder
from serve_app.asr.guards import DecodeEvidence, Retry
from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16, Task
from serve_app.asr.loading import FINAL_PAD_S, FINAL_TAIL_S
from serve_app.asr.silence import room_tone
from serve_app.asr.vocabulary import Vocabulary
from serve_app.asr.windows import FRAMES_PER_STATE, MAX_AUDIO_S, MAX_STATES, WindowPolicy, plan_window
from serve_app.models import resolve_model


class RawDecoder:
    """One Whisper model without any guard: audio to what it says, in the windows that finals have."""

    def __init__(self, model: str, compute_type: str = "int8") -> None:
        folder = open_model_folder(resolve_model(model, offline=True).path)
        self._engine = CTranslate2Engine(folder.path, device="cpu", compute_type=compute_type)
        shape = self._engine.dimensions
        self._vocabulary = Vocabulary(folder.tokenizer_path, multilingual=shape.multilingual)
        self.multilingual = shape.multilingual
        times = self._vocabulary.timestamp_ids(shape.vocabulary_size)
        self._options = DecodeOptions(
            suppressed=(*folder.suppressed, *times), suppressed_first=folder.suppressed_first
        )
        self._policy = WindowPolicy(pad_s=FINAL_PAD_S, tail_s=FINAL_TAIL_S)
        self._num_mels = shape.num_mels
        self._silence = self._engine.encode(log_mel(room_tone(MAX_AUDIO_S), MAX_FRAMES, shape.num_mels)[None])

    def decode(self, audio: Pcm16, language: str = "en", retry: Retry | None = None) -> DecodeEvidence:
        """At most 30 s of audio."""
        retry = retry or Retry()
        policy = replace(self._policy, full_window=retry.full_window)
        window = plan_window(len(audio), language, policy)
        states = self._engine.encode(log_mel(audio, window.num_frames, self._num_mels)[None])
        start = (
            *self._vocabulary.start_sequence(language, Task.TRANSCRIBE),
            self._vocabulary.no_timestamps,
        )
        num_states = min(MAX_STATES, max(1, num_frames_of(len(audio)) // FRAMES_PER_STATE))
        options = replace(
            self._options,
            max_new_tokens=window.max_new_tokens,
            temperature=retry.temperature,
            beam_size=retry.beam_size,
        )
        spliced = self._engine.splice(states, self._silence, window.num_states)
        found = self._engine.generate(spliced, [Prompt(start, num_states)], options)[0]
        return DecodeEvidence(
            text=self._vocabulary.decode(found.ids).strip(),
            avg_logprob=found.avg_logprob,
            no_speech_prob=found.no_speech_prob,
            audio_s=len(audio) / SAMPLE_RATE_HZ,
            ended=found.ended,
        )
