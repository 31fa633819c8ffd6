"""The speech service of one ingress replica: what every door calls (`contract.SpeechService`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from serve_app.access.caller import ANYBODY, Caller
from serve_app.capacity.ladder import Rung
from serve_app.capacity.speakers import SpeakerEstimate, Speed
from serve_app.core.errors import (
    MaxSessionsReached,
    QueueCongestion,
    QueueFull,
    SessionExists,
    SpeakersUnavailable,
    UnsupportedLanguage,
    UnsupportedPolicy,
)
from serve_app.core.events import EndReason
from serve_app.core.jobs import ModelInfo, Role, Task
from serve_app.core.samples import Pcm16
from serve_app.service.conductor import Conductor
from serve_app.service.contract import (
    AudioSource,
    LiveSession,
    QueueStatus,
    RecordingOptions,
    RecordingSegment,
    RecordingTranscript,
    ServiceStatus,
)
from serve_app.service.counters import Counters
from serve_app.service.live import Live
from serve_app.service.readiness import Readiness
from serve_app.service.recording_speakers import SpeakerRecordings
from serve_app.session.backpressure import InterimLoad
from serve_app.session.checkpoint import Checkpoint
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.session.ticket import TicketOffice
from serve_app.speakers.ports import SpeakerStatus
from serve_app.speakers.turns import SpeakerMode
from serve_app.streaming.policy import PolicyName
from serve_app.telemetry.traces import Traces

DEFAULT_MAX_SESSIONS = 100


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Counts; `max_queue_depth` bounds the finals and recordings that wait when a session opens.

    `max_sessions` None: as many as can be decoded in time, as measured, of which the process has one share of
    `num_ingress`; `DEFAULT_MAX_SESSIONS` until that is known, and where `adds_replicas`: the cluster grows
    with its sessions.
    """

    max_sessions: int | None = DEFAULT_MAX_SESSIONS
    num_ingress: int = 1
    adds_replicas: bool = False
    max_queue_depth: int = 100
    max_recordings: int = 32
    max_buffer_ms: int = 5_000


class Speech:
    """Admits sessions and recordings, and answers for their state."""

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        conductor: Conductor,
        recordings: SpeakerRecordings,
        counters: Counters,
        models: Callable[[], tuple[ModelInfo, ...]],
        final_models: Callable[[], tuple[ModelInfo, ...]],
        metrics_text: Callable[[], Awaitable[str]],
        tickets: TicketOffice,
        speakers: Callable[[], SpeakerStatus],
        readiness: Readiness | None = None,
        estimate: SpeakerEstimate | None = None,
        now_s: Callable[[], float] = time.time,
        traces: Traces | None = None,
    ) -> None:
        """`estimate`: the conductor's. `now_s`: seconds of the wall clock, which tickets expire by."""
        self._limits = limits
        self._estimate = estimate or SpeakerEstimate(None, 0.0)
        self._tickets = tickets
        self._now_s = now_s
        self._traces = traces
        self._speakers = speakers
        self._readiness = readiness or Readiness()
        self._conductor = conductor
        self._recordings = recordings
        self._counters = counters
        self._models = models
        self._final_models = final_models
        self._metrics_text = metrics_text
        self._lives: dict[str, Live] = {}
        self._num_recordings = 0

    def open_session(
        self, options: SessionOptions, ticket: str | None = None, caller: Caller = ANYBODY
    ) -> Live:
        checkpoint: Checkpoint | None = None
        if ticket:
            redeemed = self._tickets.redeem(ticket, options, self._now_s(), caller.key_id)
            options, checkpoint = replace(options, session_id=redeemed.session_id), redeemed.checkpoint
        other = self._lives.get(options.session_id)
        in_use = other is not None
        if other is not None and (checkpoint is None or other.key_id != caller.key_id):
            raise SessionExists(f"session {options.session_id!r} is in use")
        self._refuse_when_busy(len(self._lives) - in_use, resumed=checkpoint is not None)
        for language in options.languages or (options.language,):
            self._refuse_unknown_language(language, options.task)
        self._refuse_policy(options.policy.name)
        self._refuse_speakers(options.speakers)
        self.session_closed(options.session_id)
        session = Session(
            options,
            checkpoint,
            issue_ticket=lambda reached: self._tickets.issue(options, reached, self._now_s(), caller.key_id),
            acknowledge=ticket is not None,
        )
        live = Live(
            session,
            max_buffer_ms=self._limits.max_buffer_ms,
            wake=self._conductor.wake,
            on_text=self._counters.text_sent,
            key_id=caller.key_id,
            on_audio=self._counters.audio_arrived,
            on_end=self._counters.session_ended,
        )
        if self._traces is not None:
            live.trace = self._traces.session(options.session_id, resumed=checkpoint is not None)
        self._counters.session_started(resumed=checkpoint is not None)
        self._lives[options.session_id] = live
        self._conductor.add(live)
        return live

    def session_closed(self, session_id: str, session: LiveSession | None = None) -> None:
        live = self._lives.get(session_id)
        if live is not None and session in (None, live):
            del self._lives[session_id]
            self._conductor.remove(session_id)
            live.cancel(EndReason.CANCELLED)

    async def transcribe(
        self,
        audio: Pcm16 | AudioSource,
        options: RecordingOptions,
        progress: Callable[[float], None] | None = None,
        on_segment: Callable[[RecordingSegment], None] | None = None,
    ) -> RecordingTranscript:
        if self._num_recordings >= self._limits.max_recordings:
            self._counters.refused("upload", "max_uploads")
            raise QueueFull(f"Queue full: {self._num_recordings}/{self._limits.max_recordings}")
        self.require_served(options)
        self._refuse_when_queue_full("upload")
        self._num_recordings += 1
        try:
            return await self._recordings.transcribe(audio, options, progress, on_segment)
        finally:
            self._num_recordings -= 1

    def require_served(self, options: RecordingOptions) -> None:
        for language in options.languages or (options.language,):
            self._refuse_unknown_language(language, options.task)
        self._refuse_speakers(options.speakers)

    def status(self) -> ServiceStatus:
        models = self._models()
        ready = bool(models) and self._readiness.ready
        self._conductor.take_stock()
        load, depth, most = self._conductor.load, self._conductor.num_finals_in_flight, self._max_sessions()
        has_room = len(self._lives) < most and depth < self._limits.max_queue_depth
        accepting = has_room and load.rung < Rung.FULL
        return ServiceStatus(
            ready=ready,
            accepting=ready and accepting,
            models=models,
            queue=QueueStatus(
                depth_final=depth,
                depth_interim=self._conductor.num_interims_in_flight,
                avg_partial_ms=self._counters.avg_partial_ms,
                avg_final_ms=self._counters.avg_final_ms,
                total_requests=self._counters.total_requests,
                rejected_requests=self._counters.rejected_requests,
            ),
            max_queue_depth=self._limits.max_queue_depth,
            active_sessions=len(self._lives),
            max_sessions=most,
            estimated_max_concurrent=self._speakers_at_once(),
            interims=load,
            speakers=self._speakers(),
            degraded=self._readiness.silent,
        )

    def interim_load(self) -> InterimLoad:
        return self._conductor.load

    async def metrics_text(self) -> str:
        return await self._metrics_text()

    async def close(self) -> None:
        """End every session; called when the replica stops."""
        for session_id in tuple(self._lives):
            self.session_closed(session_id)
        await asyncio.shield(self._conductor.close())

    def _speakers_at_once(self) -> int:
        """This process's share of those who may talk at once; 0: not known."""
        models = [model for model in self._final_models() if model.role == Role.FINAL] or self._final_models()
        if not models:
            return 0
        model, num_ingress = models[0], self._limits.num_ingress
        speed = Speed(model.audio_s_per_s, model.cpu_s_per_audio_s, model.recent_audio_s_per_s)
        found = self._estimate.speakers(speed, num_ingress * len(self._lives))
        return max(1, found // num_ingress) if found else 0

    def _max_sessions(self) -> int:
        if self._limits.max_sessions is not None:
            return self._limits.max_sessions
        return (not self._limits.adds_replicas and self._speakers_at_once()) or DEFAULT_MAX_SESSIONS

    def _refuse_when_busy(self, num_sessions: int, *, resumed: bool) -> None:
        """What goes on was admitted before: only a number that was set stands against it."""
        if resumed and self._limits.max_sessions is None:
            return
        most = self._max_sessions()
        if num_sessions >= most:
            self._counters.refused("session", "max_sessions")
            raise MaxSessionsReached(f"Maximum sessions reached: {num_sessions}/{most}")
        if resumed:
            return
        self._refuse_when_queue_full("session")
        self._conductor.take_stock()
        load = self._conductor.load
        if load.rung is Rung.FULL:
            self._counters.refused("session", "queue_congestion")
            raise QueueCongestion(f"Queue congestion: text would take about {load.estimated_ms:.0f} ms")

    def _refuse_unknown_language(self, language: str | None, task: Task) -> None:
        """A language that no model for finals knows is refused by name, never written as another; so is a
        translation that none was trained for."""
        models = [model for model in self._final_models() if model.languages]
        if not models:
            return
        names = ", ".join(dict.fromkeys(model.name for model in models))
        able = [model for model in models if language is None or language in model.languages]
        if not able:
            raise UnsupportedLanguage(f"no model here knows the language {language!r} (models: {names})")
        if task is Task.TRANSLATE and language != "en" and not any(model.translates for model in able):
            raise UnsupportedLanguage(f"no model here translates into English (models: {names})")

    def _refuse_policy(self, policy: PolicyName) -> None:
        """AlignAtt needs each token's attention, which not every engine gives."""
        models = self._final_models()
        if policy is PolicyName.ALIGN_ATT and models and not any(model.attention for model in models):
            engines = ", ".join(dict.fromkeys(model.engine for model in models))
            raise UnsupportedPolicy(
                f"streaming_policy align_att needs the onnx, torch or mlx engine, this server runs {engines}"
            )

    def _refuse_speakers(self, mode: SpeakerMode) -> None:
        """Who speaks is told by channel everywhere, by voice where something can."""
        missing = self._speakers().missing
        if mode is SpeakerMode.VOICE and missing:
            raise SpeakersUnavailable(missing)

    def _refuse_when_queue_full(self, request_type: str) -> None:
        depth = self._conductor.num_finals_in_flight
        if depth >= self._limits.max_queue_depth:
            self._counters.refused(request_type, "queue_full")
            raise QueueFull(f"Queue full: {depth}/{self._limits.max_queue_depth}")
