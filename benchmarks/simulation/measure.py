"""Decode times for the simulation: from a file, or measured here with the real models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.clips import Clip
from benchmarks.simulation.talk import Moment, listen
from serve_app.asr.recogniser import Recogniser
from serve_app.capacity.throughput import MAX_FILE_BYTES, DecodeCost, DecodeSample
from serve_app.core.jobs import DecodeJob, Role, Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.vad.detector import WINDOW_SAMPLES, VadRequest, VoiceDetector

INTERIM_LENGTHS_S = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)


def read_costs(path: Path) -> dict[Role, DecodeCost]:
    """Costs by role, as `--save-costs` writes them. Raises `OSError`, `ValueError`."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        costs = msgspec.json.decode(path.read_bytes(), type=dict[Role, DecodeCost])
        return {role: costs[role] for role in (Role.FINAL, Role.INTERIM)}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no decode costs: {type(error).__name__}: {error}") from None


def measure_voice(detector: VoiceDetector, num_sessions: int = 16) -> tuple[float, float]:
    """Seconds of one voice call: what is fixed, and per session with three new windows each."""
    request = VadRequest(np.zeros(3 * WINDOW_SAMPLES, np.int16))
    times = []
    for number in (1, num_sessions):
        requests = [request] * number
        detector.detect(requests)
        began_s = time.perf_counter()
        for _ in range(20):
            detector.detect(requests)
        times.append((time.perf_counter() - began_s) / 20)
    per_session_s = max(0.0, (times[1] - times[0]) / (num_sessions - 1))
    return max(0.0, times[0] - per_session_s), per_session_s


def measure_costs(
    clips: Sequence[Clip], recogniser: Recogniser, detector: VoiceDetector
) -> dict[Role, DecodeCost]:
    """Decode the clips' own utterances one by one as finals, and windows of them as interims, alone and side
    by side."""
    talks = listen([clip.samples for clip in clips], detector)
    spoken = [
        clip.samples[round(moment.start_s * SAMPLE_RATE_HZ) : round(moment.end_s * SAMPLE_RATE_HZ)]
        for clip, talk in zip(clips, talks, strict=True)
        for moment in talk.moments
        if moment.kind is Moment.CLOSED
    ]
    windows = [
        clip.samples[: round(length_s * SAMPLE_RATE_HZ)] for clip in clips for length_s in INTERIM_LENGTHS_S
    ]

    async def run() -> dict[Role, DecodeCost]:
        finals = [await _timed(recogniser, [audio], Role.FINAL) for audio in spoken]
        interims = [
            await _timed(recogniser, [audio] * size, Role.INTERIM) for audio in windows for size in (1, 4)
        ]
        await recogniser.close()
        return {
            Role.FINAL: DecodeCost.fitted(sample for batch in finals for sample in batch),
            Role.INTERIM: DecodeCost.fitted(sample for batch in interims for sample in batch),
        }

    return asyncio.run(run())


async def _timed(recogniser: Recogniser, audio: Sequence[Pcm16], role: Role) -> list[DecodeSample]:
    """These jobs together: each batch that they were decoded in, once."""
    jobs = [
        DecodeJob(number, role, samples, "en", word_timestamps=role is Role.FINAL)
        for number, samples in enumerate(audio)
    ]
    batches: dict[float, list[float]] = {}
    async for result in recogniser.decode(jobs):
        if isinstance(result, Transcript):
            timing = result.timing
            busy_s = (timing.preprocess_ms + timing.inference_ms + timing.postprocess_ms) / 1000
            batches.setdefault(busy_s, []).append(jobs[result.job_id].audio_s)
    return [DecodeSample(tuple(lengths), busy_s) for busy_s, lengths in batches.items() if busy_s > 0]
