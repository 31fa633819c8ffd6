"""One Pipecat service in a pipeline of its own: frames in by hand, frames out in a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from pipecat.frames.frames import EndFrame, Frame, InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

LIMIT_S = 20.0
CHUNK_SAMPLES = 320


class _Tap(FrameProcessor):
    def __init__(self, seen: list[Frame], more: asyncio.Event) -> None:
        super().__init__()
        self._seen = seen
        self._more = more

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self._seen.append(frame)
        self._more.set()
        await self.push_frame(frame, direction)


class RunningPipeline:
    """`seen`: frames behind the service, `errors`: those that came back in front of it."""

    def __init__(self, service: FrameProcessor, rate_hz: int) -> None:
        self.seen: list[Frame] = []
        self.errors: list[Frame] = []
        self._rate_hz = rate_hz
        self._more = asyncio.Event()
        pipeline = Pipeline([_Tap(self.errors, self._more), service, _Tap(self.seen, self._more)])
        params = PipelineParams(audio_in_sample_rate=rate_hz)
        self._worker = PipelineWorker(
            pipeline, params=params, cancel_on_idle_timeout=False, enable_rtvi=False
        )
        self._started = asyncio.Event()

        @self._worker.event_handler("on_pipeline_started")
        async def started(worker: object, frame: Frame) -> None:
            self._started.set()

    async def run(self) -> None:
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._worker)
        await runner.run()

    async def started(self) -> None:
        await asyncio.wait_for(self._started.wait(), LIMIT_S)

    async def push(self, frame: Frame) -> None:
        await self._worker.queue_frame(frame)

    async def speak(self, samples: np.ndarray) -> None:
        """int16 (num_samples,), in chunks of 20 ms."""
        for start in range(0, len(samples), CHUNK_SAMPLES):
            audio = samples[start : start + CHUNK_SAMPLES].tobytes()
            await self.push(InputAudioRawFrame(audio, self._rate_hz, 1))

    def of(self, kind: type[Frame]) -> list[Frame]:
        """Frames of exactly that type."""
        return [frame for frame in [*self.seen, *self.errors] if type(frame) is kind]

    async def until(self, kind: type[Frame], count: int = 1) -> None:
        """Wait until `count` frames of `kind` have been seen."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.of(kind)) < count:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def running_pipeline(service: FrameProcessor, rate_hz: int = 16_000) -> AsyncIterator[RunningPipeline]:
    """The pipeline, started; its end waits for what the service still has to say."""
    pipeline = RunningPipeline(service, rate_hz)
    task = asyncio.create_task(pipeline.run())
    try:
        await pipeline.started()
        yield pipeline
        await pipeline.push(EndFrame())
        await asyncio.wait_for(task, LIMIT_S)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
