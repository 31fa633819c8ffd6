"""Calls that outlive a replica: decoding and detection have no side effects, so they are sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from time import monotonic
from typing import TypeVar

from serve_app.core.errors import InferenceError
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    Role,
)
from serve_app.core.samples import Pcm16
from serve_app.service.ports import (
    RecogniserPort,
    ReplicaLost,
    SpeakerPort,
    VoicePort,
)
from serve_app.speakers.ports import SpeakerWindow, WindowVoices
from serve_app.speakers.turns import Diarization, SpeakerCounts
from serve_app.vad.detector import VadRequest, VadResult

Answer = TypeVar("Answer")

RETRY_PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Before each attempt; a replica that died is back within some 5 s, and calls wait for it meanwhile."""
MORE_PAUSES_S = (8.0, 15.0, 15.0, 15.0)
"""Then, for text that must not be lost: a host that fell silent is noticed, and replaced, within a minute."""
LOST_PATIENCE_S = 900.0
"""And while it is replicas that are lost, not answers that fail: one that hangs has to be noticed, ended, and
its successor has to load the largest model, all on a busy machine."""


async def decode_reliably(
    port: RecogniserPort, jobs: Sequence[DecodeJob], on_retry: Callable[[], None]
) -> AsyncIterator[DecodeResult]:
    """Every job's result, once, as soon as it is there.

    What a lost replica left unanswered is sent again, and so is what failed in passing (a full queue, a
    replica that is closing), interims excepted: a newer one will come.
    """
    waiting = {job.job_id: job for job in jobs}
    failed: dict[int, DecodeFailure] = {}
    message = "the recogniser was lost"
    only_interims = all(job.role is Role.INTERIM for job in jobs)
    pauses_s = (*RETRY_PAUSES_S, *(() if only_interims else MORE_PAUSES_S))
    give_up_s = monotonic() + (0.0 if only_interims else LOST_PATIENCE_S)
    attempt, was_lost = 0, False
    while attempt < len(pauses_s) or (was_lost and monotonic() < give_up_s):
        await asyncio.sleep(pauses_s[min(attempt, len(pauses_s) - 1)])
        attempt, was_lost = attempt + 1, False
        try:
            async for result in port.decode(list(waiting.values())):
                job = waiting.get(result.job_id)
                if job is None:
                    continue
                if isinstance(result, DecodeFailure) and result.retryable and job.role is not Role.INTERIM:
                    failed[job.job_id] = result
                    continue
                del waiting[job.job_id]
                yield result
        except ReplicaLost as lost:
            message, was_lost = str(lost) or message, True
        if not waiting:
            return
        on_retry()
    for job_id in waiting:
        yield failed.get(job_id) or DecodeFailure(job_id, message, retryable=True)


async def detect_reliably(
    voice: VoicePort, requests: Sequence[VadRequest], on_retry: Callable[[], None]
) -> list[VadResult]:
    """Ask until there is an answer: without the detector nothing can go on, audio waits meanwhile."""
    attempt = 0
    while True:
        await asyncio.sleep(RETRY_PAUSES_S[min(attempt, len(RETRY_PAUSES_S) - 1)])
        try:
            return await voice.detect(requests)
        except ReplicaLost:
            on_retry()
            attempt += 1


async def listen_reliably(
    port: SpeakerPort, windows: Sequence[SpeakerWindow], on_retry: Callable[[], None]
) -> list[WindowVoices]:
    """The voices in each window. Raises `InferenceError` where they cannot be had: labels are not worth
    waiting for ever."""
    return await _diarizer_reliably(lambda: port.listen(windows), on_retry)


async def diarize_reliably(
    port: SpeakerPort,
    audio: Pcm16,
    counts: SpeakerCounts,
    on_retry: Callable[[], None],
    progress: Callable[[float], None],
) -> Diarization:
    """Who spoke in a recording; begun again where a replica was lost. Raises `InferenceError`."""

    async def diarize() -> Diarization:
        async for answer in port.diarize(audio, counts):
            if isinstance(answer, Diarization):
                return answer
            progress(answer)
        raise ReplicaLost("the diarizer ended without an answer")

    return await _diarizer_reliably(diarize, on_retry)


async def _diarizer_reliably(call: Callable[[], Awaitable[Answer]], on_retry: Callable[[], None]) -> Answer:
    message = "the diarizer was lost"
    for pause_s in RETRY_PAUSES_S:
        await asyncio.sleep(pause_s)
        try:
            return await call()
        except ReplicaLost as lost:
            message = str(lost) or message
            on_retry()
    raise InferenceError(message)
