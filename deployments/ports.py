"""Deployment handles as the conductor's ports: plain records in and out, Ray's errors turned into ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, TypeVar

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from serve_app.cache.ports import CacheLost, CacheStats, Looked
from serve_app.core.errors import InferenceError, ReplicaUnhealthy, SottoError
from serve_app.core.jobs import DecodeJob, DecodeResult, ModelInfo
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.service.ports import ReplicaLost
from serve_app.service.signs_of_life import without_beats
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
RAISED_THERE = (RayTaskError, ReplicaUnhealthy)
"""What the replica's own code raised: wrapped where it came through Ray, as it is where it came over gRPC."""
VOICE_DEADLINE_S = 5.0
"""A call takes milliseconds; one to a host that fell silent would hold every session of this ingress."""
VOICE_DEADLINE_S_PER_S = 0.5
"""And so much more for each second of audio in it: hundreds of times what the slowest machine needs."""
CACHE_DEADLINE_S = 3.0
"""Transcribing a short recording takes no longer."""
LISTENING_DEADLINE_S = 120.0
"""The first call waits for pyannote.audio to be imported and its models to be loaded."""
DESCRIBE_DEADLINE_S = 5.0
"""A replica answers from its event loop, which does not wait for its models."""

Item = TypeVar("Item")


class VoiceHandle:
    """The voice-activity deployment as a `VoicePort`."""

    def __init__(self, handle: DeploymentHandle[Any], shape: StateShape) -> None:
        self._shape = shape
        # By value over gRPC: half the cost of the object store for arrays of this size.
        self._handle = handle.options(_by_reference=False)

    async def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        """One answer per request; they travel as a few arrays, however many sessions there are."""
        audio_s = sum(len(request.samples) for request in requests) / SAMPLE_RATE_HZ
        try:
            async with asyncio.timeout(VOICE_DEADLINE_S + VOICE_DEADLINE_S_PER_S * audio_s):
                results: PackedResults = await self._handle.detect.remote(
                    pack_requests(requests, self._shape)
                )
        except (*LOST, TimeoutError) as lost:
            raise ReplicaLost("the voice-activity replica was lost") from lost
        except RAISED_THERE as failed:
            raise _lost_or_own(failed) from None
        return unpack_results(results)

    async def describe(self) -> None:
        """Returns where there is a replica that answers. Raises `ReplicaLost`."""
        await _described(self._handle, "the voice detector")


class RecogniserHandle:
    """A recogniser deployment as a `RecogniserPort`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle.options(_by_reference=False)
        self._streaming = handle.options(_by_reference=False, stream=True)

    async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncIterator[DecodeResult]:
        results: DeploymentResponseGenerator[DecodeResult | None] = self._streaming.decode.remote(list(jobs))
        result: DecodeResult
        async for result in _listened(results, "the recogniser's replica"):
            yield result

    async def describe(self) -> tuple[ModelInfo, ...]:
        models: tuple[ModelInfo, ...] = await _described(self._handle, "the recogniser")
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
        except RAISED_THERE as failed:
            raise _own_error(failed) from None
        return voices

    async def diarize(self, audio: Pcm16, counts: SpeakerCounts) -> AsyncIterator[float | Diarization]:
        try:
            answers: DeploymentResponseGenerator[float | Diarization | None] = self._streaming.diarize.remote(
                audio, counts
            )
            answer: float | Diarization
            async for answer in _listened(answers, "the diarization replica"):
                yield answer
        except RayTaskError as failed:
            raise _own_error(failed) from None

    async def describe(self) -> SpeakerStatus:
        status: SpeakerStatus = await _described(self._handle, "the diarizer")
        return status


async def _listened(
    stream: DeploymentResponseGenerator[Item | None], what: str
) -> AsyncGenerator[Item, None]:
    """What a replica says, without its signs of life; the call is taken back where it is left early.

    Raises `ReplicaLost` for a replica that died, says nothing any more, or says that its model hangs.
    """
    is_over = False
    try:
        async for item in without_beats(stream, what):
            yield item
        is_over = True
    except LOST as lost:
        raise ReplicaLost(f"{what} was lost") from lost
    except RAISED_THERE as failed:
        raise _lost_or_own(failed) from None
    finally:
        if not is_over:
            stream.cancel()


async def _described(handle: DeploymentHandle[Any], what: str) -> Any:
    try:
        async with asyncio.timeout(DESCRIBE_DEADLINE_S):
            return await handle.describe.remote()
    except (RayError, ReplicaUnhealthy, TimeoutError) as lost:
        raise ReplicaLost(f"{what} does not answer") from lost


def _lost_or_own(failed: RayTaskError | ReplicaUnhealthy) -> Exception:
    """A replica that is about to be replaced is lost; all else is as it was raised."""
    cause = failed.cause if isinstance(failed, RayTaskError) else failed
    return ReplicaLost(str(cause)) if isinstance(cause, ReplicaUnhealthy) else failed


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

    async def clear(self, prefix: str = "") -> int:
        num_deleted: int = await self._asked(self._handle.clear.remote(prefix))
        return num_deleted

    async def stats(self) -> CacheStats:
        stats: CacheStats = await self._asked(self._handle.stats.remote())
        return stats

    @staticmethod
    async def _asked(answer: Any) -> Any:
        """Raises `CacheLost` for every failure of the cache: the upload goes on without it."""
        try:
            async with asyncio.timeout(CACHE_DEADLINE_S):
                return await answer
        except (RayError, *LOST, TimeoutError) as lost:
            cause = lost.cause if isinstance(lost, RayTaskError) else lost
            raise CacheLost(f"{type(cause).__name__}") from lost


def _own_error(failed: RayTaskError | ReplicaUnhealthy) -> Exception:
    """What the replica raised, where it is an error of ours that a caller may see."""
    cause = failed.cause if isinstance(failed, RayTaskError) else failed
    if isinstance(cause, ReplicaUnhealthy):
        return ReplicaLost(str(cause))
    return cause if isinstance(cause, SottoError) else InferenceError("telling speakers apart failed")
