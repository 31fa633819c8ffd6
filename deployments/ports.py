"""Deployment handles as the conductor's ports: plain records in and out, Ray's errors turned into ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve_app.cache.ports import CacheLost, CacheStats, Looked
from serve_app.core.errors import InferenceError, SottoError
from serve_app.core.jobs import DecodeJob, DecodeResult, ModelInfo
from serve_app.core.samples import Pcm16
from serve_app.service.ports import ReplicaLost
from serve_app.speakers.ports import SpeakerStatus, SpeakerWindow, WindowVoices
from serve_app.speakers.turns import Diarization, SpeakerCounts
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
VOICE_DEADLINE_S = 5.0
"""A call takes milliseconds; one to a host that fell silent would hold every session of this ingress."""
CACHE_DEADLINE_S = 3.0
"""Transcribing a short recording takes no longer."""
LISTENING_DEADLINE_S = 120.0
"""The first call waits for pyannote.audio to be imported and its models to be loaded."""


class VoiceHandle:
    """The voice-activity deployment as a `VoicePort`."""

    def __init__(self, handle: DeploymentHandle[Any], shape: StateShape) -> None:
        self._shape = shape
        # By value over gRPC: half the cost of the object store for arrays of this size.
        self._handle = handle.options(_by_reference=False)

    async def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        """One answer per request; they travel as a few arrays, however many sessions there are."""
        try:
            async with asyncio.timeout(VOICE_DEADLINE_S):
                results: PackedResults = await self._handle.detect.remote(
                    pack_requests(requests, self._shape)
                )
        except (*LOST, TimeoutError) as lost:
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


class SpeakerHandle:
    """The diarization deployment as a `SpeakerPort`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle.options(_by_reference=False)
        # A recording goes through the object store: hundreds of megabytes are not copied into a message.
        self._streaming = handle.options(stream=True)

    async def listen(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        try:
            async with asyncio.timeout(LISTENING_DEADLINE_S):
                voices: list[WindowVoices] = await self._handle.listen.remote(list(windows))
        except (*LOST, TimeoutError) as lost:
            raise ReplicaLost("the diarization replica was lost") from lost
        except RayTaskError as failed:
            raise _own_error(failed) from None
        return voices

    async def diarize(self, audio: Pcm16, counts: SpeakerCounts) -> AsyncIterator[float | Diarization]:
        try:
            async for answer in self._streaming.diarize.remote(audio, counts):
                yield answer
        except LOST as lost:
            raise ReplicaLost("the diarization replica was lost") from lost
        except RayTaskError as failed:
            raise _own_error(failed) from None

    async def describe(self) -> SpeakerStatus:
        try:
            status: SpeakerStatus = await self._handle.describe.remote()
        except RayError as lost:
            raise ReplicaLost("the diarizer does not answer") from lost
        return status


class CacheHandle:
    """The result cache's deployment as a `ResultStore`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle.options(_by_reference=False)

    async def look_up(self, key: str) -> Looked:
        looked: Looked = await self._asked(self._handle.look_up.remote(key))
        return looked

    async def keep(self, key: str, value: bytes) -> None:
        await self._asked(self._handle.keep.remote(key, value))

    async def renew(self, key: str) -> None:
        await self._asked(self._handle.renew.remote(key))

    async def release(self, key: str) -> None:
        await self._asked(self._handle.release.remote(key))

    async def clear(self) -> None:
        await self._asked(self._handle.clear.remote())

    async def stats(self) -> CacheStats:
        stats: CacheStats = await self._asked(self._handle.stats.remote())
        return stats

    @staticmethod
    async def _asked(answer: Any) -> Any:
        """Whatever goes wrong there, an upload goes on without the cache."""
        try:
            async with asyncio.timeout(CACHE_DEADLINE_S):
                return await answer
        except (RayError, *LOST, TimeoutError) as lost:
            cause = lost.cause if isinstance(lost, RayTaskError) else lost
            raise CacheLost(f"{type(cause).__name__}") from lost


def _own_error(failed: RayTaskError) -> Exception:
    """What the replica raised, where it is an error of ours that a caller may see."""
    cause = failed.cause
    return cause if isinstance(cause, SottoError) else InferenceError("telling speakers apart failed")
