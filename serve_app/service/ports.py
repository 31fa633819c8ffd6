"""What the conductor needs of the model deployments: three protocols, with Ray behind none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from serve_app.core.errors import ServerError
from serve_app.core.jobs import DecodeJob, DecodeResult, ModelInfo
from serve_app.core.samples import Pcm16
from serve_app.speakers.ports import SpeakerStatus, SpeakerWindow, WindowVoices
from serve_app.speakers.turns import Diarization, SpeakerCounts
from serve_app.vad.detector import VadRequest, VadResult


class ReplicaLost(ServerError):
    """The process that held this call died; the call is idempotent and may be sent again."""


class VoicePort(Protocol):
    """The voice-activity deployment."""

    async def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        """One answer per request, in order. Raises `ReplicaLost`."""


class RecogniserPort(Protocol):
    """A recogniser deployment."""

    def decode(self, jobs: Sequence[DecodeJob]) -> AsyncIterator[DecodeResult]:
        """Every job's result as soon as it is there, in any order. Raises `ReplicaLost` midway."""

    async def describe(self) -> tuple[ModelInfo, ...]:
        """The models it hosts, once they are loaded."""


class SpeakerPort(Protocol):
    """The diarization deployment."""

    async def listen(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        """One answer per window, in order. Raises `ReplicaLost`, `InferenceError`."""

    def diarize(self, audio: Pcm16, counts: SpeakerCounts) -> AsyncIterator[float | Diarization]:
        """Who spoke in int16 `(n,)` audio: the share that is done, 0 to 1, from time to time, then what was
        found. Raises `ReplicaLost` midway, `InferenceError`, `SpeakersUnavailable`."""

    async def describe(self) -> SpeakerStatus:
        """What runs there."""
