"""How much speech a transcriber decodes per second on this machine, measured by decoding some."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serve_app.asr.ports import Transcriber
from serve_app.core.jobs import DecodeJob, Role, Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

MEASURE_S = 2.0
_LEAST_ROUNDS, _MOST_ROUNDS = 2, 20
_SHORT_S = 3.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of audio that all workers together decode per second, and the CPU time that one of these
    seconds takes (of the whole process: little where a card decodes). Zeros: not known."""

    audio_s_per_s: float = 0.0
    cpu_s_per_audio_s: float = 0.0


def measure_pace(
    transcriber: Transcriber,
    role: Role,
    speech: Pcm16,
    *,
    num_workers: int,
    batch: int,
    seconds: float = MEASURE_S,
) -> Pace:
    """The best of a few rounds, in each of which every worker decodes a shorter and a longer part of `speech`
    (int16 `(n,)`, several seconds), in batches of `batch`. Blocking: `seconds`, or two rounds where these
    take longer. The best, since other processes are starting up at the same time. Without drafts: where
    it matters, interims have given way and there are few.
    """
    parts = [speech[: round(_SHORT_S * SAMPLE_RATE_HZ)], speech]
    jobs = [[DecodeJob(i, role, part, "en") for i in range(batch)] for part in parts]
    best = Pace()
    with ThreadPoolExecutor(num_workers) as threads:
        began_s = time.perf_counter()
        for number in range(_MOST_ROUNDS):
            if number >= _LEAST_ROUNDS and time.perf_counter() - began_s >= seconds:
                break
            round_s, cpu_s = time.perf_counter(), time.process_time()
            decoded_s = sum(threads.map(lambda _: _decode(transcriber, jobs), range(num_workers)))
            cpu_s, round_s = time.process_time() - cpu_s, time.perf_counter() - round_s
            if decoded_s and decoded_s / round_s > best.audio_s_per_s:
                best = Pace(decoded_s / round_s, cpu_s / decoded_s)
    return best


def _decode(transcriber: Transcriber, batches: Sequence[list[DecodeJob]]) -> float:
    """Seconds of audio that got an answer."""
    return sum(
        job.audio_s
        for batch in batches
        for job, answer in zip(batch, transcriber.transcribe(batch), strict=True)
        if isinstance(answer, Transcript)
    )
