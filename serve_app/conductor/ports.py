"""What the conductor needs of the model deployments: two protocols, with Ray behind neither."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from serve_app.asr.jobs import DecodeJob, DecodeResult, ModelInfo
from serve_app.errors import ServerError
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
