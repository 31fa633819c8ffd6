"""The contract between the doors (`web`) and what answers them here: protocols and plain records.

A door opens a `LiveSession`, pushes 16 kHz audio into it and is told its events; or it hands over a
recording and gets a `RecordingTranscript`. Doors never see Ray, models or queues.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.access.caller import ANYBODY, Caller
from serve_app.audio.conditioning import ConditioningOptions
from serve_app.core.events import EndReason, Event
from serve_app.core.jobs import ModelInfo, Task, Word
from serve_app.core.samples import Pcm16
from serve_app.formatting import FormattingOptions
from serve_app.session.backpressure import InterimLoad
from serve_app.session.options import SessionOptions
from serve_app.speakers.ports import SpeakerStatus
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode, Turn
from serve_app.vad.options import EndpointingOptions


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """One upload's choices. `vad_filter` False decodes everything, silence too; `normalise` brings its peak
    to -1 dBFS first. `speakers`: who spoke; segments are then cut where another speaker begins, and are told
    only once the whole recording is known. `CHANNEL` wants audio with its channels. `languages` and
    `withhold_doubted`: as in `SessionOptions`."""

    language: str | None = None
    languages: tuple[str, ...] = ()
    withhold_doubted: bool = False
    task: Task = Task.TRANSCRIBE
    word_timestamps: bool = False
    vad_filter: bool = True
    prompt: str = ""
    hotwords: str = ""
    beam_size: int | None = None
    temperature: float = 0.0
    conditioning: ConditioningOptions = ConditioningOptions()
    formatting: FormattingOptions = FormattingOptions()
    normalise: bool = False
    speakers: SpeakerMode = SpeakerMode.OFF
    speaker_counts: SpeakerCounts = SpeakerCounts()
    endpointing: EndpointingOptions = EndpointingOptions()

    @property
    def needs_whole(self) -> bool:
        """Whether nothing can begin before the recording has been decoded to its end."""
        return self.speakers is not SpeakerMode.OFF


@dataclass(frozen=True, slots=True)
class RecordingSegment:
    """One stretch of a recording; times in seconds from its first sample. `speaker` counts from 0, None where
    speakers were not asked for. `doubted`: why a guard does not believe the text."""

    start_s: float
    end_s: float
    text: str
    avg_logprob: float
    no_speech_prob: float
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    speaker: int | None = None
    doubted: str = ""


@dataclass(frozen=True, slots=True)
class RecordingTranscript:
    """`turns` and `num_speakers`: where speakers were asked for. `num_withheld`: texts that were kept back
    for `withhold_doubted`."""

    text: str
    segments: tuple[RecordingSegment, ...]
    language: str
    language_probability: float
    duration_s: float
    model: str
    transcribe_s: float
    turns: tuple[Turn, ...] = ()
    num_speakers: int | None = None
    num_withheld: int = 0


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Work handed to the recognisers and not yet answered, and its recent cost (exponential means)."""

    depth_final: int = 0
    depth_interim: int = 0
    avg_partial_ms: float = 0.0
    avg_final_ms: float = 0.0
    total_requests: int = 0
    rejected_requests: int = 0


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What the health and status pages are made from."""

    ready: bool
    accepting: bool
    models: tuple[ModelInfo, ...] = ()
    queue: QueueStatus = field(default_factory=QueueStatus)
    max_queue_depth: int = 0
    active_sessions: int = 0
    max_sessions: int = 0
    estimated_max_concurrent: int = 0
    interims: InterimLoad = InterimLoad()
    speakers: SpeakerStatus = SpeakerStatus(missing="speakers are not told apart")
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeploymentReplicas:
    """How many replicas of one deployment are in which state; `status` of the deployment. Both in Serve's
    words."""

    deployment: str
    status: str
    states: tuple[tuple[str, int], ...]


class AudioSource(Protocol):
    """A recording that is read while it is transcribed, so that it is never held whole."""

    @property
    def stated_s(self) -> float | None:
        """How long it says it is; None where it does not."""

    @property
    def peak(self) -> int | None:
        """The largest magnitude of its samples where that is known in advance."""

    def blocks(self) -> AsyncIterator[Pcm16]:
        """Its samples, int16 `(n,)` at 16 kHz, once, in blocks of any length; may raise a `SottoError`."""


class LiveSession(Protocol):
    """One live session as a door sees it."""

    session_id: str

    def start(self, on_event: Callable[[Event], None]) -> None:
        """Begin: events go to `on_event` in their order, from `SessionStarted` up to and with `SessionEnded`.

        Call it once, before the first `push`: events before that are dropped. `on_event` is called where an
        event arises, which may be within a call of this session. It must not wait and must not raise: the
        door queues the event, and its queue is the only one between session and client.
        """

    async def push(self, samples: Pcm16) -> None:
        """Take audio; waits while more than the buffer limit is undecoded, so that the socket pushes back."""

    def flush(self) -> None:
        """Finish the utterance in progress now."""

    def reconfigure(self, options: SessionOptions) -> None:
        """Other choices from now on: of `options` those about interims, prompt and hotwords are taken."""

    def end(self) -> None:
        """No more audio comes: finish everything, then `SessionEnded(completed)`."""

    def cancel(self, reason: EndReason = EndReason.CANCELLED) -> None:
        """Drop what is not decoded; `SessionEnded(reason)` follows at once."""


class SpeechService(Protocol):
    """What answers the doors."""

    def open_session(
        self, options: SessionOptions, ticket: str | None = None, caller: Caller = ANYBODY
    ) -> LiveSession:
        """Admit a session of the caller's; another key neither goes on with it nor takes over its id.

        `ticket`: go on with the session that it was issued to, whose next sample is `SessionStarted`'s
        `resume_from_samples`; a socket that still has that session loses it. `options.session_id` may be
        empty then: the answer has the ticket's. An empty ticket starts a new session for a client that wants
        to be able to go on: it hears `Acknowledged` like one that goes on; with None it does not.

        Raises `SpeakersUnavailable`, `InvalidTicket`, `SessionExists`, `MaxSessionsReached`, `QueueFull`.
        """

    def session_closed(self, session_id: str, session: LiveSession | None = None) -> None:
        """The socket of this session is gone: its id is free at once, what it still computes is dropped.

        `session`: only if the id is still its own, and no other socket has taken it over with a ticket.
        """

    async def transcribe(
        self,
        audio: Pcm16 | AudioSource,
        options: RecordingOptions,
        progress: Callable[[float], None] | None = None,
        on_segment: Callable[[RecordingSegment], None] | None = None,
    ) -> RecordingTranscript:
        """Transcribe a whole recording: int16 `(n,)`, or `(n, num_channels)` where `options.speakers` is
        `CHANNEL`; or a source, which with `options.normalise` knows its peak, unless `options.needs_whole`.
        Raises `InferenceError`, `QueueFull`, `SpeakersUnavailable` and what the source raises.

        `progress` hears the share decoded, 0 to 1; `on_segment` every segment in order, as soon as it can.
        """

    def require_served(self, options: RecordingOptions) -> None:
        """Raises `UnsupportedLanguage` or `SpeakersUnavailable` where no recording can be transcribed so."""

    def status(self) -> ServiceStatus:
        """A snapshot; cheap."""

    def interim_load(self) -> InterimLoad:
        """Its part about interims, as of the last tick: every session tells its client once a second."""

    async def metrics_text(self) -> str:
        """Prometheus exposition text of the whole cluster."""
