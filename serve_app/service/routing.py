"""Short utterances to recognisers on the CPU, so that GPUs are left to the long ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog

from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    ModelInfo,
    Role,
)
from serve_app.service.ports import RecogniserPort, ReplicaLost

log = structlog.get_logger(__name__)


class ShortAudioRoute:
    """A `RecogniserPort` in front of two: finals of at most `max_audio_s` seconds go to `short`, all else to
    `usual`. Where `short` is lost, fails, or has `max_in_flight` of them already, `usual` decodes them."""

    def __init__(
        self,
        short: RecogniserPort,
        usual: RecogniserPort,
        *,
        max_audio_s: float,
        max_in_flight: int,
    ) -> None:
        self._short = short
        self._usual = usual
        self._max_audio_s = max_audio_s
        self._max_in_flight = max_in_flight
        self._num_short = 0

    async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncIterator[DecodeResult]:
        room = max(0, self._max_in_flight - self._num_short)
        short = [job for job in jobs if self._is_short(job)][:room]
        taken = {job.job_id for job in short}
        usual = [job for job in jobs if job.job_id not in taken]
        results: asyncio.Queue[DecodeResult | None] = asyncio.Queue()
        running = [
            asyncio.create_task(self._decode_short(short, results)),
            asyncio.create_task(self._decode_usual(usual, results)),
        ]
        for task in running:
            task.add_done_callback(lambda _: results.put_nowait(None))
        try:
            left = len(running)
            while left:
                result = await results.get()
                if result is None:
                    left -= 1
                else:
                    yield result
            for task in running:
                task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def describe(self) -> tuple[ModelInfo, ...]:
        return await self._usual.describe()

    def _is_short(self, job: DecodeJob) -> bool:
        return job.role is Role.FINAL and job.attention is None and job.audio_s <= self._max_audio_s

    async def _decode_usual(
        self, jobs: Sequence[DecodeJob], results: asyncio.Queue[DecodeResult | None]
    ) -> None:
        if jobs:
            async for result in self._usual.decode(jobs):
                results.put_nowait(result)

    async def _decode_short(
        self, jobs: Sequence[DecodeJob], results: asyncio.Queue[DecodeResult | None]
    ) -> None:
        left = {job.job_id: job for job in jobs}
        self._num_short += len(jobs)
        try:
            if jobs:
                async for result in self._short.decode(jobs):
                    if not isinstance(result, DecodeFailure) and result.job_id in left:
                        del left[result.job_id]
                        results.put_nowait(result)
        except ReplicaLost as lost:
            log.warning("short utterances go to the GPU", num_jobs=len(left), reason=str(lost))
        finally:
            self._num_short -= len(jobs)
        if left:
            await self._decode_usual(list(left.values()), results)
