"""The largest batch, tried before the first session comes, and kept to where memory does not hold it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import structlog

from serve_app.asr.jobs import SAMPLE_RATE_HZ, DecodeJob, Role, Transcript
from serve_app.asr.out_of_memory import BatchCap
from serve_app.asr.ports import Transcriber
from serve_app.asr.windows import MAX_AUDIO_S
from serve_app.errors import ModelUnavailable

_log = structlog.get_logger(__name__)


class CappedTranscriber(Transcriber, Protocol):
    @property
    def cap(self) -> BatchCap: ...


def try_largest_batch(transcriber: CappedTranscriber, max_batch: int) -> None:
    """Decode so many of the longest windows in one batch, and keep to what fits from then on.

    Interims' windows, since those are not tried again for unlikely text, which noise is. Raises
    `ModelUnavailable` where not even one fits.
    """
    cap, model = transcriber.cap, transcriber.info.model
    noise = np.random.default_rng(1).normal(0, 3000, round(MAX_AUDIO_S) * SAMPLE_RATE_HZ).astype(np.int16)
    num_failures = cap.num_failures
    results = transcriber.transcribe([DecodeJob(n, Role.INTERIM, noise, "en") for n in range(max_batch)])
    if cap.num_failures == num_failures:
        return
    if not any(isinstance(result, Transcript) for result in results):
        raise ModelUnavailable(
            f"the model {model} runs out of memory on a batch of one: give it a larger share of the card "
            "(num_gpus), or take a smaller model or int8_float16"
        )
    fits = cap.size(max_batch)
    cap.keep_to(fits)
    _log.warning("batches are kept smaller, memory ran out", model=model, wanted=max_batch, max_batch=fits)
