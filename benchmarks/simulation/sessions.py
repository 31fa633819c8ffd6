"""What simulated ingress replicas hold: sessions with their utterances, jobs on their way, latencies."""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass, field

from benchmarks.simulation.replicas import Job
from benchmarks.simulation.talk import Talk
from serve_app.core.jobs import Role
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.vad.detector import WINDOW_SAMPLES

WINDOW_S = WINDOW_SAMPLES / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class DoorShape:
    """What lies around the conductor, in seconds: the client's chunks, the way in and out together, one voice
    call for `n` sessions (`voice_fixed_s + n * voice_per_session_s`), the least time between interims, and
    what the machine's other work adds to a message on its way out, each as likely."""

    chunk_s: float = 0.1
    door_s: float = 0.004
    voice_fixed_s: float = 0.003
    voice_per_session_s: float = 0.0004
    num_voice_replicas: int = 1
    partial_interval_s: float = 0.3
    jitter_s: tuple[float, ...] = (0.0,)


@dataclass(slots=True)
class Results:
    """Latencies in ms as the live benchmark counts them."""

    final_ms: array[float] = field(default_factory=lambda: array("d"))
    interim_ms: array[float] = field(default_factory=lambda: array("d"))
    speech_start_ms: array[float] = field(default_factory=lambda: array("d"))
    num_speculative: int = 0
    num_refused: int = 0
    num_active: int = 0


@dataclass(slots=True, eq=False)
class Pending:
    """A final that has been asked for: when the chunk with its endpoint was sent, and whether it is there."""

    endpoint_sent_s: float = 0.0
    closed: bool = False
    done: bool = False


@dataclass(slots=True, eq=False)
class Utterance:
    start_s: float
    covered_s: float
    shown_s: float = 0.0
    speaking: bool = True
    pause_end_s: float | None = None
    speculated_end_s: float | None = None
    speculation: Pending | None = None
    interim_out: bool = False


class SimulatedSession:
    """One speaker; positions are seconds of its own audio."""

    __slots__ = ("begin_s", "finals", "next_moment", "talk", "utterance")

    def __init__(self, talk: Talk, begin_s: float) -> None:
        self.talk = talk
        self.begin_s = begin_s
        self.next_moment = 0
        self.utterance: Utterance | None = None
        self.finals: deque[Pending] = deque()

    def sent_s(self, position_s: float, chunk_s: float) -> float:
        """When the chunk with the sample just before this position went out."""
        return self.begin_s + math.ceil(position_s / chunk_s - 1e-6) * chunk_s

    def heard_s(self, now_s: float, chunk_s: float) -> float:
        """How much audio of whole windows has come."""
        received_s = math.floor((now_s - self.begin_s) / chunk_s + 1e-6) * chunk_s
        return math.floor(received_s / WINDOW_S + 1e-6) * WINDOW_S


class FinalJob(Job):
    __slots__ = ("pending", "session", "utterance")

    def __init__(
        self, audio_s: float, session: SimulatedSession, pending: Pending, utterance: Utterance | None
    ) -> None:
        super().__init__(Role.FINAL, audio_s, _nobody)
        self.session, self.pending, self.utterance = session, pending, utterance


class InterimJob(Job):
    __slots__ = ("end_s", "session", "utterance")

    def __init__(
        self, audio_s: float, fresh_s: float, session: SimulatedSession, utterance: Utterance, end_s: float
    ) -> None:
        super().__init__(Role.INTERIM, audio_s, _nobody, fresh_s=fresh_s)
        self.session, self.utterance, self.end_s = session, utterance, end_s


def _nobody(job: Job) -> None:
    raise AssertionError("a job that was not sent has been answered")
