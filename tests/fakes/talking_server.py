"""The live door in front of the real conductor, with a detector and recogniser that hear `talk` exactly."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

import uvicorn

from fakes.fake_service import FakeSettings
from fakes.ports import FakeRecogniser, FakeVoice
from fakes.voices import FakeSpeakers
from serve_app.core.jobs import DecodeJob, DecodeResult, ModelInfo
from serve_app.service.conductor import Conductor, ConductorConfig
from serve_app.service.counters import Counters
from serve_app.service.ports import RecogniserPort
from serve_app.service.recording_speakers import SpeakerRecordings
from serve_app.service.recordings import RecordingTranscriber
from serve_app.service.speech import AdmissionLimits, Speech
from serve_app.session.ticket import TicketOffice
from serve_app.speakers.ports import SpeakerStatus
from serve_app.telemetry.metrics import Metrics, no_metrics
from serve_app.telemetry.traces import Traces, traced
from serve_app.web.app import create_app

MODELS = (ModelInfo("fake", "final", "fake", "cpu", "int8", True, "", ("en", "pt")),)


class TracedRecogniser(FakeRecogniser):
    """One that makes spans as a recogniser's replica does."""

    def __init__(self, traces: Traces) -> None:
        super().__init__()
        self._traces = traces

    async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncGenerator[DecodeResult, None]:
        async with aclosing(traced(self._traces, jobs, super().decode(jobs))) as results:
            async for result in results:
                yield result


@asynccontextmanager
async def talking_speech(
    key: bytes = b"key",
    limits: AdmissionLimits | None = None,
    now_s: Callable[[], float] = time.time,
    traces: Traces | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[Speech]:
    """One replica's service, on this loop; its tickets hold for a minute."""
    recogniser: RecogniserPort = FakeRecogniser() if traces is None else TracedRecogniser(traces)
    voice, counters, speakers = FakeVoice(), Counters(metrics or no_metrics()), FakeSpeakers()
    conductor = Conductor(
        ConductorConfig(tick_s=0.001),
        voice=voice,
        interim=recogniser,
        final=recogniser,
        counters=counters,
        speakers=speakers,
        traces=traces,
    )

    async def metrics_text() -> str:
        return ""

    speech = Speech(
        limits or AdmissionLimits(),
        conductor=conductor,
        recordings=SpeakerRecordings(
            RecordingTranscriber(
                voice=voice,
                recogniser=recogniser,
                max_windows_in_flight=3,
                on_decoded=counters.recording_decoded,
                traces=traces,
            ),
            speakers,
        ),
        speakers=lambda: SpeakerStatus("fake"),
        counters=counters,
        models=lambda: MODELS,
        final_models=lambda: MODELS,
        metrics_text=metrics_text,
        tickets=TicketOffice(key, lifetime_s=60),
        now_s=now_s,
        traces=traces,
    )
    task = asyncio.create_task(conductor.run())
    try:
        yield speech
    finally:
        await speech.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def talking_server(key: bytes = b"key", speech: Speech | None = None) -> AsyncIterator[int]:
    """The port of one replica, on this loop."""
    if speech is None:
        async with talking_speech(key) as own, talking_server(key, own) as port:
            yield port
        return
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app = create_app(speech, FakeSettings())
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()
