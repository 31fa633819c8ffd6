"""A scripted `SpeechService`: what it says depends only on how much audio it got, never on timing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from serve_app.access.caller import ANYBODY, Caller
from serve_app.core.errors import MaxSessionsReached, SessionExists, SottoError
from serve_app.core.events import (
    EndReason,
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Timing,
)
from serve_app.core.jobs import ModelInfo, Word
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.service.contract import (
    AudioSource,
    QueueStatus,
    RecordingOptions,
    RecordingSegment,
    RecordingTranscript,
    ServiceStatus,
)
from serve_app.session.backpressure import InterimLoad
from serve_app.session.options import SessionOptions
from serve_app.settings import Settings
from serve_app.speakers.turns import SpeakerMode, Turn

TIMING = Timing(1.0, 2.0, 30.0, 0.5, 33.5, "base")

HELLO = RecordingTranscript(
    text="Hello there. General Kenobi.",
    segments=(
        RecordingSegment(
            0.0,
            1.0,
            " Hello there.",
            -0.25,
            0.01,
            (Word(" Hello", 0.0, 0.4, 0.99), Word(" there.", 0.5, 0.9, 0.98)),
        ),
        RecordingSegment(
            1.2,
            2.0,
            " General Kenobi.",
            -0.5,
            0.02,
            (Word(" General", 1.2, 1.5, 0.97), Word(" Kenobi.", 1.5, 1.9, 0.96)),
        ),
    ),
    language="en",
    language_probability=0.987,
    duration_s=2.0,
    model="base",
    transcribe_s=0.1,
)

TWO_VOICES = replace(
    HELLO,
    segments=tuple(
        replace(
            segment, speaker=speaker, words=tuple(replace(word, speaker=speaker) for word in segment.words)
        )
        for speaker, segment in enumerate(HELLO.segments)
    ),
    turns=(Turn(0.0, 1.0, 0), Turn(1.2, 2.0, 1)),
    num_speakers=2,
)
"""What `HELLO` is where speakers were asked for."""


class FakeSession:
    """A partial for every half second of audio, a final at every flush and at the end."""

    def __init__(self, options: SessionOptions) -> None:
        self.options = options
        self.session_id = options.session_id
        self.samples: list[Pcm16] = []
        self.num_flushes = 0
        self.cancelled: EndReason | None = None
        self.room = asyncio.Event()
        self.room.set()
        self.fail_with: Exception | None = None
        self._on_event: Callable[[Event], None] | None = None
        self._said_early: list[Event] = []
        self._total = self._utterance_start = self._num_finals = 0

    @property
    def num_samples(self) -> int:
        return self._total

    @property
    def audio(self) -> Pcm16:
        return np.concatenate(self.samples) if self.samples else np.zeros(0, np.int16)

    def start(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        for event in (SessionStarted(self.session_id), *self._said_early):
            self.say(event)

    async def push(self, samples: Pcm16) -> None:
        assert samples.dtype == np.int16
        assert samples.ndim == 1
        await self.room.wait()
        if self.fail_with is not None:
            raise self.fail_with
        if self._total == self._utterance_start:
            self.say(SpeechStarted(self._total))
        before, self._total = self._total, self._total + len(samples)
        self.samples.append(samples.copy())
        step = SAMPLE_RATE_HZ // 2
        for count in range(before // step + 1, self._total // step + 1):
            if self.options.partials and count * step > self._utterance_start:
                text = f"{count} halves"
                segment = f"seg-{self._num_finals:04d}"
                self.say(Partial(segment, text, 2, 0.9, "en", self._utterance_start, count * step, TIMING))

    def flush(self) -> None:
        self.num_flushes += 1
        if self._total > self._utterance_start:
            self.say(SpeechEnded(self._total))
            self.say(self._final())
            self._num_finals += 1
            self._utterance_start = self._total

    def reconfigure(self, options: SessionOptions) -> None:
        self.options = options

    def end(self) -> None:
        self.flush()
        self.say(SessionEnded(EndReason.COMPLETED, self._total, self._num_finals))

    def cancel(self, reason: EndReason = EndReason.CANCELLED) -> None:
        self.cancelled = reason
        self.say(SessionEnded(reason, self._total, self._num_finals))

    def say(self, event: Event) -> None:
        """Tell an event, or once the session starts."""
        if self._on_event is None:
            self._said_early.append(event)
        else:
            self._on_event(event)

    def _final(self) -> Final:
        start, end = self._utterance_start, self._total
        words = (
            Word(" Olá,", start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, 0.99),
            Word(" mundo.", end / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, 0.98),
        )
        return Final(
            f"seg-{self._num_finals:04d}",
            self._num_finals,
            f"Olá, mundo. {end - start}",
            words,
            0.9,
            -0.1,
            "pt",
            0.95,
            start,
            end,
            end,
            TIMING,
        )


@dataclass
class FakeService:
    """Keeps every session it opened in `sessions`, the live ones in `live`, and what it was asked for."""

    max_sessions: int = 8
    transcript: RecordingTranscript = HELLO
    diarized: RecordingTranscript = TWO_VOICES
    ready: bool = True
    refuse_with: SottoError | None = None
    transcribe_gate: asyncio.Event | None = None
    transcribe_error: Exception | None = None
    sessions: list[FakeSession] = field(default_factory=list)
    live: dict[str, FakeSession] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    tickets: list[str | None] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    uploads: list[tuple[Pcm16, RecordingOptions]] = field(default_factory=list)
    num_cancelled_uploads: int = 0
    on_open: Callable[[FakeSession], None] | None = None

    def open_session(
        self, options: SessionOptions, ticket: str | None = None, caller: Caller = ANYBODY
    ) -> FakeSession:
        self.tickets.append(ticket)
        self.callers.append(caller)
        if self.refuse_with is not None:
            raise self.refuse_with
        if options.session_id in self.live:
            raise SessionExists(f"session {options.session_id!r} is in use")
        if len(self.live) >= self.max_sessions:
            raise MaxSessionsReached(f"Maximum sessions reached: {len(self.live)}/{self.max_sessions}")
        session = FakeSession(options)
        if self.on_open is not None:
            self.on_open(session)
        self.live[options.session_id] = session
        self.sessions.append(session)
        return session

    def session_closed(self, session_id: str, session: object = None) -> None:
        self.closed.append(session_id)
        self.live.pop(session_id, None)

    async def transcribe(
        self,
        audio: Pcm16 | AudioSource,
        options: RecordingOptions,
        progress: Callable[[float], None] | None = None,
        on_segment: Callable[[RecordingSegment], None] | None = None,
    ) -> RecordingTranscript:
        if not isinstance(audio, np.ndarray):
            audio = np.concatenate([block async for block in audio.blocks()])
        self.uploads.append((audio, options))
        try:
            if self.transcribe_gate is not None:
                await self.transcribe_gate.wait()
        except asyncio.CancelledError:
            self.num_cancelled_uploads += 1
            raise
        if self.transcribe_error is not None:
            raise self.transcribe_error
        assert audio.ndim == (2 if options.speakers is SpeakerMode.CHANNEL else 1)
        transcript = self.transcript if options.speakers is SpeakerMode.OFF else self.diarized
        if on_segment is not None:
            for segment in transcript.segments:
                on_segment(segment)
        return transcript

    def require_served(self, options: RecordingOptions) -> None:
        if self.refuse_with is not None:
            raise self.refuse_with

    def status(self) -> ServiceStatus:
        models = (
            ModelInfo("base", "final", "ctranslate2", "cpu", "int8", True, "/models/base"),
            ModelInfo("tiny.en", "interim", "ctranslate2", "cpu", "int8", False, "/models/tiny.en"),
        )
        return ServiceStatus(
            ready=self.ready,
            accepting=self.ready,
            models=models if self.ready else (),
            queue=QueueStatus(1, 1, 145.5, 280.3, 1234, 5),
            interims=InterimLoad(estimated_ms=425.8),
            max_queue_depth=20,
            active_sessions=len(self.live),
            max_sessions=self.max_sessions,
            estimated_max_concurrent=3,
        )

    def interim_load(self) -> InterimLoad:
        return self.status().interims

    async def metrics_text(self) -> str:
        return "# HELP stt_active_connections Active WebSocket connections\n"


class FakeSettings(Settings):
    """Settings with limits that a test reaches."""

    level_warnings: bool = False
    word_timestamps: bool = True
    max_file_size_mb: float = 1.0
    max_audio_length_seconds: float = 30.0
    allowed_formats: tuple[str, ...] = ("wav", "mp3", "ogg", "flac", "m4a", "webm")
    max_frame_bytes: int = 64_000
    heartbeat_s: float = 5.0
    idle_final_s: float = 0.0
    idle_timeout_s: float = 20.0
    start_timeout_s: float = 20.0
    max_session_s: float = 60.0
