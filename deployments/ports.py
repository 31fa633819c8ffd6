"""Deployment handles as the conductor's ports: plain records in and out, Ray's errors turned into ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve_app.asr.jobs import DecodeJob, DecodeResult, ModelInfo
from serve_app.conductor.ports import ReplicaLost
from serve_app.vad.detector import (
    PackedResults,
    StateShape,
    VadRequest,
    VadResult,
    pack_requests,
    unpack_results,
)

LOST = (RayActorError, BackPressureError, DeploymentUnavailableError)
"""What a handle raises when the replica died or cannot take the call now: sending it again may work."""


class VoiceHandle:
    """The voice-activity deployment as a `VoicePort`."""

    def __init__(self, handle: DeploymentHandle[Any], shape: StateShape) -> None:
        self._shape = shape
        # By value over gRPC: half the cost of the object store for arrays of this size.
        self._handle = handle.options(_by_reference=False)

    async def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        """One answer per request; they travel as a few arrays, however many sessions there are."""
        try:
            results: PackedResults = await self._handle.detect.remote(pack_requests(requests, self._shape))
        except LOST as lost:
            raise ReplicaLost("the voice-activity replica was lost") from lost
        return unpack_results(results)


class RecogniserHandle:
    """A recogniser deployment as a `RecogniserPort`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle.options(_by_reference=False)
        self._streaming = handle.options(_by_reference=False, stream=True)

    async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncIterator[DecodeResult]:
        try:
            async for result in self._streaming.decode.remote(list(jobs)):
                yield result
        except LOST as lost:
            raise ReplicaLost("the recogniser's replica was lost") from lost

    async def describe(self) -> tuple[ModelInfo, ...]:
        try:
            models: tuple[ModelInfo, ...] = await self._handle.describe.remote()
        except RayError as lost:
            raise ReplicaLost("the recogniser does not answer") from lost
        return models
