"""The application with a queue: doors, store, worker and webhooks, over a fake service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from serve_app.access.caller import Caller
from serve_app.clips.store import StoredClips
from serve_app.core.addresses import Networks
from serve_app.core.samples import Pcm16
from serve_app.jobs.addresses import OutboundRules
from serve_app.jobs.audio_files import StoredAudio
from serve_app.jobs.desk import JobDesk
from serve_app.jobs.opening import open_store
from serve_app.jobs.outbound import Outbound
from serve_app.jobs.threads import StoreThreads
from serve_app.jobs.webhooks import WebhookSender
from serve_app.jobs.worker import Parts, Progress, Worker, WorkerLimits
from serve_app.service.contract import AudioSource, RecordingOptions, RecordingTranscript
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import create_app
from serve_app.web.callers import set_caller
from serve_app.web.door import Door, Kept
from serve_app.web.job_kinds import Transcribe, job_kinds


class AsCaller:
    """The header `x-test-key` says who asks, as the check of keys would."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"x-test-key":
                set_caller(scope, Caller(key_id=value.decode()))
        await self._app(scope, receive, send)


@dataclass
class JobOffice:
    """`worker` and `webhooks` do nothing unless they are asked to."""

    service: FakeService
    client: httpx.AsyncClient
    app: ASGIApp
    desk: JobDesk
    worker: Worker
    webhooks: WebhookSender


@asynccontextmanager
async def job_office(folder: Path, **changes: Any) -> AsyncIterator[JobOffice]:
    service, settings = FakeService(), FakeSettings(**changes)
    store = StoreThreads(lambda: open_store(f"sqlite:///{folder / 'jobs.db'}"))
    audio = StoredAudio(str(folder / "audio"))
    rules = OutboundRules(Networks(("127.0.0.0/8",)))
    outbound = Outbound(rules)

    def transcribe_with(parts: Parts) -> Transcribe:
        async def transcribe(
            audio: Pcm16 | AudioSource, options: RecordingOptions, progress: Progress
        ) -> RecordingTranscript:
            transcript = await service.transcribe(audio, options)
            progress(1.0)
            return transcript

        return transcribe

    metrics = Metrics(LocalInstruments())
    worker = Worker(
        store, audio, outbound, job_kinds(Door(service, settings, metrics), transcribe_with), WorkerLimits()
    )
    desk = JobDesk(store, audio, rules, max_waiting=20, watch_s=0.005)
    clips = StoredClips(str(folder / "clips"))
    app = AsCaller(create_app(service, settings, metrics, kept=Kept(jobs=desk, clips=clips)))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        webhooks = WebhookSender(store, outbound, key=b"secret")
        yield JobOffice(service, client, app, desk, worker, webhooks)
    await outbound.close()
    await store.close()
