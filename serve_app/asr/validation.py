"""Is a job one that an engine can decode? Asked before a batch, since one bad item fails all of it."""

from __future__ import annotations

import numpy as np

from serve_app.asr.engine import EngineInfo
from serve_app.asr.jobs import SAMPLE_RATE_HZ, DecodeJob, Task
from serve_app.asr.windows import MAX_AUDIO_S

MAX_BEAM_SIZE = 20


def complaint(job: DecodeJob, info: EngineInfo) -> str | None:
    """What is wrong with the job, safe to send to the caller; None for a sound one."""
    return audio_complaint(job) or language_complaint(job, info)


def audio_complaint(job: DecodeJob) -> str | None:
    audio = job.audio
    if not isinstance(audio, np.ndarray) or audio.dtype != np.int16 or audio.ndim != 1:
        return "the audio is not a one-dimensional array of int16 samples"
    if len(audio) > MAX_AUDIO_S * SAMPLE_RATE_HZ:
        return f"the audio is {job.audio_s:.2f} s long, a window holds {MAX_AUDIO_S:.0f} s"
    if not 1 <= job.beam_size <= MAX_BEAM_SIZE:
        return f"beam_size is {job.beam_size}, expected 1 to {MAX_BEAM_SIZE}"
    return None


def language_complaint(job: DecodeJob, info: EngineInfo) -> str | None:
    """English models never answer for another language; asked for none, they take it to be English."""
    if job.language is not None and job.language not in info.languages:
        return f"the model {info.model} does not know the language {job.language!r}"
    if job.task is Task.TRANSLATE and not info.multilingual and job.language != "en":
        return f"the model {info.model} cannot translate"
    return None
