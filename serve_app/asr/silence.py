"""Audio in which nobody speaks must give no text, where Whisper likes to write "Thank you."."""

from __future__ import annotations

import numpy as np

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16

MAX_SILENT_RMS = 10.0
"""Loudest 20 ms of what counts as silence, in int16 steps: -70 dBFS, below any microphone's own noise."""

NO_SPEECH_RULES = ((0.6, -1.0), (0.85, -0.75))
"""No text where `no_speech_prob` is over the first and `avg_logprob` under the second of a pair: Whisper's
own rule (Radford et al. 2022, section 4.5), and one that holds back the lone "you" on hum and tones."""

_FRAME_SAMPLES = SAMPLE_RATE_HZ // 50


def is_silent(audio: Pcm16) -> bool:
    """Whether no 20 ms of the audio are louder than `MAX_SILENT_RMS`; true of no audio at all."""
    whole = len(audio) // _FRAME_SAMPLES * _FRAME_SAMPLES
    for part in (audio[:whole].reshape(-1, _FRAME_SAMPLES), audio[whole:].reshape(1, -1)):
        if part.size:
            power = np.square(part, dtype=np.float32).mean(axis=1)
            if power.max() > MAX_SILENT_RMS**2:
                return False
    return True


def reads_as_silence(no_speech_prob: float, avg_logprob: float) -> bool:
    """Whether the model expected no speech and was unsure of the text it wrote all the same."""
    return any(no_speech_prob > prob and avg_logprob < logprob for prob, logprob in NO_SPEECH_RULES)
