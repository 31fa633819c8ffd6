"""From settings and ports to a running speech service: the one place where its parts are put together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from serve_app.assembly.process import pseudonyms
from serve_app.capacity.ladder import LadderLimits
from serve_app.capacity.machine import available_cores
from serve_app.capacity.speakers import SpeakerEstimate
from serve_app.core.jobs import DecodeJob, ModelInfo, Role, Task
from serve_app.service.conductor import Conductor, ConductorConfig
from serve_app.service.counters import Counters
from serve_app.service.listening import MAX_WINDOWS_PER_CALL
from serve_app.service.ports import RecogniserPort, SpeakerPort, VoicePort
from serve_app.service.readiness import Readiness
from serve_app.service.recording_speakers import SpeakerRecordings
from serve_app.service.recordings import RecordingTranscriber
from serve_app.service.routing import ShortAudioRoute
from serve_app.service.speech import AdmissionLimits, Speech
from serve_app.session.backpressure import InterimBudget
from serve_app.session.ticket import TicketOffice
from serve_app.settings import Settings
from serve_app.speakers.ports import SpeakerStatus
from serve_app.telemetry.metrics import Metrics, no_metrics
from serve_app.telemetry.traces import Traces, open_traces

log = structlog.get_logger(__name__)

GPU_BATCHES_IN_FLIGHT = 2
NO_SPEAKERS = SpeakerStatus(missing="nothing here tells speakers apart")
MAX_CPU_INTERIMS = 4
"""One batch: more would only wait, and be old when their turn comes."""


def assemble(
    settings: Settings,
    *,
    voice: VoicePort,
    interim: RecogniserPort,
    final: RecogniserPort,
    shared_cores: bool,
    models: Callable[[], tuple[ModelInfo, ...]],
    metrics_text: Callable[[], Awaitable[str]],
    final_models: Callable[[], tuple[ModelInfo, ...]] | None = None,
    short: RecogniserPort | None = None,
    speakers: SpeakerPort | None = None,
    speaker_status: Callable[[], SpeakerStatus] | None = None,
    metrics: Metrics | None = None,
    traces: Traces | None = None,
    readiness: Readiness | None = None,
) -> tuple[Speech, Conductor]:
    """Build the service of one ingress replica; the caller runs `conductor.run()`.

    `shared_cores`: interims and finals share workers, so that interims are held to `interim_share` of
    their time; otherwise interims may fill workers of their own. `final_models`: those of `models` that
    answer finals and recordings, where not all do. `short`: decodes short finals, where
    there is one. `speakers`: what tells them apart, where something does. `readiness`: what deployments have
    answered lately.
    """
    num_workers = settings.num_workers or available_cores()
    counters = Counters(metrics or no_metrics())
    parallel = num_workers if shared_cores else num_workers * settings.max_batch_size
    budget = InterimBudget(
        num_workers=parallel,
        max_in_flight=MAX_CPU_INTERIMS if shared_cores else parallel * GPU_BATCHES_IN_FLIGHT,
        share=settings.interim_share if shared_cores else None,
    )
    config = ConductorConfig(
        tick_s=settings.tick_ms / 1000,
        speculative_finals=settings.speculative_finals,
        max_speculative_in_flight=parallel,
        interim_budget=budget,
        max_interim_window_ms=int(settings.max_partial_window_s * 1000),
        beam_size=settings.beam_size,
        interim_beam_size=settings.interim_beam_size,
        speaker_step_s=settings.diarization_step_s,
        max_speaker_windows=1 if shared_cores else MAX_WINDOWS_PER_CALL,
        ladder=ladder_limits(settings, parallel),
    )
    estimate = SpeakerEstimate(available_cores() if shared_cores else None, time.monotonic())

    def smaller_knows(job: DecodeJob) -> bool:
        return settings.final_fallback and knows_smaller(models(), job)

    finals: RecogniserPort = final
    if short is not None and settings.short_audio_on_cpu_s is not None:
        finals = ShortAudioRoute(
            short, final, max_audio_s=settings.short_audio_on_cpu_s, max_in_flight=num_workers
        )
    conductor = Conductor(
        config,
        voice=voice,
        interim=interim,
        final=finals,
        counters=counters,
        speakers=speakers,
        traces=traces,
        estimate=estimate,
        smaller_knows=smaller_knows,
    )
    recordings = RecordingTranscriber(
        voice=voice,
        recogniser=final,
        beam_size=settings.beam_size_for(Role.RECORDING),
        max_windows_in_flight=2 * parallel,
        on_retry=counters.retried,
        on_decoded=counters.recording_decoded,
        traces=traces,
    )
    limits = AdmissionLimits(
        max_sessions=settings.max_sessions,
        max_queue_depth=settings.max_queue_depth,
        max_buffer_ms=settings.max_buffer_ms,
        num_ingress=settings.num_ingress_replicas or 1,
        adds_replicas=not shared_cores,
    )
    speech = Speech(
        limits,
        conductor=conductor,
        recordings=SpeakerRecordings(recordings, speakers, on_retry=counters.retried),
        counters=counters,
        models=models,
        final_models=final_models or models,
        metrics_text=metrics_text,
        tickets=ticket_office(settings),
        speakers=speaker_status or (lambda: NO_SPEAKERS),
        traces=traces,
        readiness=readiness,
        estimate=estimate,
    )
    return speech, conductor


def traces_of(settings: Settings, component: str) -> Traces | None:
    """Where spans of this process go; None where none are wanted."""
    return open_traces(
        settings.otlp_endpoint,
        headers=settings.secret("otlp_headers") or "",
        sample_ratio=settings.trace_sample_ratio,
        component=component,
        shown=pseudonyms(settings) or str,
    )


def ladder_limits(settings: Settings, parallel: int) -> LadderLimits:
    """`parallel`: items that are decoded at once, of which a few times as many may wait."""

    def watermarks(high: int | None, critical: int | None, least: int) -> tuple[int, int]:
        usual = max(least, 3 * parallel)
        high = high or min(usual, critical or usual)
        return high, critical or 2 * high

    final_high, final_critical = watermarks(settings.final_queue_high, settings.final_queue_critical, 6)
    interim_high, interim_critical = watermarks(
        settings.interim_queue_high, settings.interim_queue_critical, 20
    )
    return LadderLimits(
        num_workers=parallel,
        max_total_ms=settings.max_estimated_server_total_ms,
        final_high=final_high,
        final_critical=final_critical,
        interim_high=interim_high,
        interim_critical=interim_critical,
    )


def knows_smaller(models: Sequence[ModelInfo], job: DecodeJob) -> bool:
    """Whether the interim model is another than the finals', and has the job's language."""
    by_role = {model.role: model for model in models}
    smaller, own = by_role.get(Role.INTERIM), by_role.get(Role.FINAL)
    if smaller is None or own is None or smaller.name == own.name:
        return False
    if job.language is None:
        return smaller.multilingual and not job.hint.among
    translates = job.task is Task.TRANSCRIBE or job.language == "en" or smaller.translates
    return translates and (job.language in smaller.languages if smaller.languages else smaller.multilingual)


def ticket_office(settings: Settings) -> TicketOffice:
    """With the service's key; without one, a key of this process, whose tickets no other takes."""
    secret = settings.secret("ticket_secret")
    if not secret:
        log.warning("no ticket_secret: sessions can be resumed on their own ingress replica only")
    key = (secret or secrets.token_hex(32)).encode()
    return TicketOffice(key, lifetime_s=settings.ticket_lifetime_s)
