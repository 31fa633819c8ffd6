"""The application with a queue: doors, store, worker and webhooks, over a fake service."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from serve_app.access.caller import Caller
from serve_app.access.limits import Limiter
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
from serve_app.web.app import Guards, create_app
from serve_app.web.callers import set_address, set_caller
from serve_app.web.door import Door, Kept
from serve_app.web.job_kinds import Transcribe, job_kinds

CLIENT = "203.0.113.9"


class AsCaller:
    """The header `x-test-key` says who asks, as the check of keys would."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"x-test-key":
                set_address(scope, CLIENT)
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
    door: Door
    folder: Path


@asynccontextmanager
async def job_office(
    folder: Path,
    *,
    limiter: Limiter | None = None,
    now_s: Callable[[], float] = time.time,
    local: LocalInstruments | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    **changes: Any,
) -> AsyncIterator[JobOffice]:
    """`transport` is what is outside, in place of the network."""
    service, settings = FakeService(), FakeSettings(**changes)
    store = StoreThreads(lambda: open_store(f"sqlite:///{folder / 'jobs.db'}"))
    audio = StoredAudio(str(folder / "audio"))
    rules = OutboundRules(Networks(("127.0.0.0/8",)))
    outbound = Outbound(rules, transport=transport)

    def transcribe_with(parts: Parts) -> Transcribe:
        async def transcribe(
            audio: Pcm16 | AudioSource, options: RecordingOptions, progress: Progress
        ) -> RecordingTranscript:
            transcript = await service.transcribe(audio, options)
            progress(1.0)
            return transcript

        return transcribe

    metrics = Metrics(local or LocalInstruments())
    door = Door(service, settings, metrics, limiter=limiter)
    kinds = job_kinds(door, transcribe_with)
    worker = Worker(store, audio, outbound, kinds, WorkerLimits(), counts=metrics, now_s=now_s)
    desk = JobDesk(store, audio, rules, max_waiting=20, counts=metrics, now_s=now_s, watch_s=0.005)
    clips = StoredClips(str(folder / "clips"))
    guards = Guards(limiter=limiter or Limiter())
    app = AsCaller(create_app(service, settings, metrics, guards=guards, kept=Kept(jobs=desk, clips=clips)))
    calling = httpx.ASGITransport(app, raise_app_exceptions=False, client=(CLIENT, 1))
    async with httpx.AsyncClient(transport=calling, base_url="http://sotto") as client:
        webhooks = WebhookSender(store, outbound, key=b"secret", counts=metrics, now_s=now_s)
        yield JobOffice(service, client, app, desk, worker, webhooks, door, folder)
    await outbound.close()
    await store.close()
