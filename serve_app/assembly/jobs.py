"""The queue of recordings of one ingress replica: its store, its desk for the doors, its worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from serve_app.access.sealing import Seal, Unreadable
from serve_app.core.addresses import Networks
from serve_app.core.erasure import Erasure
from serve_app.core.jobs import Role
from serve_app.core.samples import Pcm16
from serve_app.jobs.addresses import OutboundRules
from serve_app.jobs.audio_files import StoredAudio
from serve_app.jobs.counting import JobCounts
from serve_app.jobs.desk import JobDesk
from serve_app.jobs.opening import database_address, open_store
from serve_app.jobs.outbound import Outbound
from serve_app.jobs.sealed_store import SealedStore
from serve_app.jobs.signing import signing_key
from serve_app.jobs.store import JobStore
from serve_app.jobs.threads import StoreThreads
from serve_app.jobs.webhooks import WebhookSender
from serve_app.jobs.worker import JobKind, Parts, Progress, Worker, WorkerLimits
from serve_app.models.places import DEFAULT_CACHE_DIR
from serve_app.service.contract import AudioSource, RecordingOptions, RecordingTranscript
from serve_app.service.ports import RecogniserPort, SpeakerPort, VoicePort
from serve_app.service.recording_speakers import SpeakerRecordings
from serve_app.service.recordings import RecordingTranscriber
from serve_app.service.remembered import RememberedRecogniser
from serve_app.settings import Settings

MAX_WINDOWS_IN_FLIGHT = 2
"""Of one job: uploads, whose clients wait, have more of them on their way."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """`desk` is for the doors; `run` works on jobs and sends webhooks until it is cancelled."""

    desk: JobDesk
    _worker: Worker
    _webhooks: WebhookSender
    _outbound: Outbound
    _works: bool

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._webhooks.run(), name="webhooks")
                if self._works:
                    tasks.create_task(self._worker.run(), name="jobs")
        finally:
            await self._outbound.close()


class JobEraser:
    """Forgets all jobs of a key, with audio, results and webhooks; one that runs stops within seconds."""

    name = "jobs"
    only_if_asked = False

    def __init__(self, desk: JobDesk) -> None:
        self._desk = desk

    async def erase(self, wanted: Erasure) -> int:
        """Raises `JobsUnavailable`, `OSError`."""
        return await self._desk.forget_all(wanted.key_id) if wanted.key_id else 0


def assemble_jobs(settings: Settings, kinds: Mapping[str, JobKind], counts: JobCounts | None = None) -> Jobs:
    """`kinds`: what jobs of each door are; `counts` hears of all. The store is opened with the first call."""
    folder = (settings.cache_dir or DEFAULT_CACHE_DIR).expanduser()
    address = database_address(settings.secret("jobs_database"), settings.secret("redis_url"), folder)
    seal = Seal(settings.secret("storage_key"))

    def opened() -> JobStore:
        store = open_store(address)
        return SealedStore(store, seal, Unreadable) if seal.is_on else store

    store = StoreThreads(opened)
    audio = StoredAudio(settings.jobs_storage_path or str(folder / "jobs"), seal if seal.is_on else None)
    rules = OutboundRules(Networks(settings.outbound_networks))
    outbound = Outbound(rules)
    limits = WorkerLimits(
        num_at_once=settings.job_workers,
        max_fetched_bytes=int(settings.max_file_size_mb * 1024 * 1024),
        result_ttl_s=settings.job_result_ttl_s,
    )
    worker = Worker(store, audio, outbound, kinds, limits, counts=counts)
    secret = settings.secret("webhook_secret")
    webhooks = WebhookSender(store, outbound, key=signing_key(secret) if secret else None, counts=counts)
    desk = JobDesk(
        store,
        audio,
        rules,
        max_waiting=settings.max_waiting_jobs,
        result_ttl_s=settings.job_result_ttl_s,
        on_added=worker.wake,
        on_cancelled=worker.stop,
        counts=counts,
    )
    return Jobs(desk, worker, webhooks, outbound, _works=settings.job_workers > 0)


def transcribing_jobs(
    settings: Settings,
    *,
    voice: VoicePort,
    recogniser: RecogniserPort,
    speakers: SpeakerPort | None,
    require_served: Callable[[RecordingOptions], None],
    max_windows_in_flight: int = MAX_WINDOWS_IN_FLIGHT,
) -> Callable[
    [Parts], Callable[[Pcm16 | AudioSource, RecordingOptions, Progress], Awaitable[RecordingTranscript]]
]:
    """What transcribes a job, given the parts of it that are kept.

    Its windows go to the recogniser as those of uploads do, below all live work. How many jobs are worked on
    at once is for the workers to bound, not for admission.
    """

    def transcribe_with(
        parts: Parts,
    ) -> Callable[[Pcm16 | AudioSource, RecordingOptions, Progress], Awaitable[RecordingTranscript]]:
        transcriber = RecordingTranscriber(
            voice=voice,
            recogniser=RememberedRecogniser(recogniser, parts),
            beam_size=settings.beam_size_for(Role.RECORDING),
            max_windows_in_flight=max_windows_in_flight,
        )
        recordings = SpeakerRecordings(transcriber, speakers)

        async def transcribe(
            audio: Pcm16 | AudioSource, options: RecordingOptions, progress: Progress
        ) -> RecordingTranscript:
            require_served(options)
            return await recordings.transcribe(audio, options, progress)

        return transcribe

    return transcribe_with
