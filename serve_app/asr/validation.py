"""Is a job one that a model can decode? Asked before a batch, since one bad item fails all of it."""

from __future__ import annotations

import numpy as np

from serve_app.asr.jobs import SAMPLE_RATE_HZ, DecodeJob, Task
from serve_app.asr.ports import TranscriberInfo
from serve_app.asr.windows import MAX_AUDIO_S

MAX_BEAM_SIZE = 20
MAX_TEMPERATURE = 1.0
MAX_PREFIX_CHARS = 1_000


def complaint(job: DecodeJob, info: TranscriberInfo) -> str | None:
    """What is wrong with the job, safe to send to the caller; None for a sound one."""
    if job.attention is not None and not info.attention:
        return f"the engine {info.engine} gives no attention: align_att needs the torch or the mlx engine"
    return audio_complaint(job) or language_complaint(job, info)


def audio_complaint(job: DecodeJob) -> str | None:
    audio = job.audio
    if not isinstance(audio, np.ndarray) or audio.dtype != np.int16 or audio.ndim != 1:
        return "the audio is not a one-dimensional array of int16 samples"
    if len(audio) > MAX_AUDIO_S * SAMPLE_RATE_HZ:
        return f"the audio is {job.audio_s:.2f} s long, a window holds {MAX_AUDIO_S:.0f} s"
    if not 1 <= job.beam_size <= MAX_BEAM_SIZE:
        return f"beam_size is {job.beam_size}, expected 1 to {MAX_BEAM_SIZE}"
    if not 0 <= job.temperature <= MAX_TEMPERATURE:
        return f"temperature is {job.temperature}, expected 0 to {MAX_TEMPERATURE:g}"
    if len(job.prefix) > MAX_PREFIX_CHARS:
        return f"the prefix is {len(job.prefix)} characters long, at most {MAX_PREFIX_CHARS} are taken"
    return None


def language_complaint(job: DecodeJob, info: TranscriberInfo) -> str | None:
    """English models never answer for another language; asked for none, they take it to be English."""
    if job.language is not None and job.language not in info.languages:
        return f"the model {info.model} does not know the language {job.language!r}"
    if job.task is Task.TRANSLATE and job.language != "en" and not info.can(job.language, job.task):
        return f"the model {info.model} cannot translate"
    return None
