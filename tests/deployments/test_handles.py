"""What a deployment's handle raises, as the ports say it: lost and hanging replicas, own errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from deployments import ports
from deployments.ports import RecogniserHandle, SpeakerHandle, VoiceHandle
from fakes.fake_time import run_in_fake_time
from serve_app.core.errors import InferenceError, ReplicaUnhealthy, SottoError, SpeakersUnavailable
from serve_app.core.jobs import DecodeFailure, DecodeJob, Role
from serve_app.service.ports import ReplicaLost
from serve_app.speakers.turns import SpeakerCounts
from serve_app.vad.detector import SILERO_STATE, VadRequest

JOB = DecodeJob(1, Role.FINAL, np.zeros(1600, np.int16), "en")
ANSWER = DecodeFailure(1, "an answer")
HANGS = 1e6
"""Seconds: in fake time these are over at once, for whoever waits so long."""


def raised_there(error: Exception) -> RayTaskError:
    return RayTaskError("decode", "a traceback", error)


class Handle:
    """A deployment's handle whose methods all tell `script`: seconds to wait, errors to raise, else items."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.num_cancelled = 0
        self.streams = False

    def options(self, *, stream: bool = False, **_: Any) -> Handle:
        self.streams = self.streams or stream
        return self

    def __getattr__(self, method: str) -> Any:
        return self

    def remote(self, *_: Any) -> Any:
        return Stream(self)


class Stream:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._told = self._tell()

    async def _tell(self) -> AsyncIterator[Any]:
        for part in self._handle.script:
            if isinstance(part, float):
                await asyncio.sleep(part)
            elif isinstance(part, Exception):
                raise part
            else:
                yield part

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._told)

    def __await__(self) -> Any:
        return anext(self._told).__await__()

    def cancel(self) -> None:
        self._handle.num_cancelled += 1


async def decoded(handle: Handle) -> list[Any]:
    return [result async for result in RecogniserHandle(handle).decode([JOB])]  # type: ignore[arg-type]


def test_answers_without_the_signs_of_life_between_them() -> None:
    handle = Handle(None, 15.0, None, 15.0, None, ANSWER, None)
    assert run_in_fake_time(decoded(handle)) == [ANSWER]
    assert handle.num_cancelled == 0


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (HANGS, "the recogniser's replica has said nothing for 20 s"),
        (ActorDiedError(), "the recogniser's replica was lost"),
        (raised_there(ReplicaUnhealthy("the model hangs")), "the model hangs"),
        (ReplicaUnhealthy("the model hangs"), "the model hangs"),
    ],
    ids=["silent", "dead", "hanging", "hanging, over gRPC"],
)
def test_a_recogniser_that_is_lost_midway(end: Any, said: str) -> None:
    handle = Handle(None, ANSWER, end)
    with pytest.raises(ReplicaLost, match=said):
        run_in_fake_time(decoded(handle))
    assert handle.num_cancelled == 1


def test_any_other_error_is_not_a_loss() -> None:
    with pytest.raises(RayTaskError):
        run_in_fake_time(decoded(Handle(raised_there(ValueError("a bug")))))


async def detected(handle: Handle, seconds: float) -> Any:
    samples = np.zeros(round(seconds * 16_000) // 512 * 512, np.int16)
    return await VoiceHandle(handle, SILERO_STATE).detect([VadRequest(samples)])  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [HANGS, ActorDiedError(), ReplicaUnhealthy("it hangs")])
def test_a_voice_detector_that_is_lost(end: Any) -> None:
    with pytest.raises(ReplicaLost):
        run_in_fake_time(detected(Handle(end), 1.0))


def test_a_long_call_to_the_voice_detector_has_more_time() -> None:
    with pytest.raises(ReplicaLost):
        run_in_fake_time(detected(Handle(8.0), 1.0))
    with pytest.raises(StopAsyncIteration):  # it was waited for: the script has no answer
        run_in_fake_time(detected(Handle(8.0), 10.0))


async def diarized(handle: Handle) -> list[Any]:
    port = SpeakerHandle(handle)  # type: ignore[arg-type]
    return [answer async for answer in port.diarize(np.zeros(1600, np.int16), SpeakerCounts())]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (HANGS, ReplicaLost),
        (raised_there(ReplicaUnhealthy("it hangs")), ReplicaLost),
        (ReplicaUnhealthy("it hangs"), ReplicaLost),
        (raised_there(SpeakersUnavailable("install it")), SpeakersUnavailable),
        (raised_there(ValueError("secret inside")), InferenceError),
    ],
)
def test_a_diarizer_that_fails(end: Any, error: type[SottoError]) -> None:
    with pytest.raises(error) as failed:
        run_in_fake_time(diarized(Handle(0.5, None, end)))
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("end", [HANGS, ActorDiedError(), ReplicaUnhealthy("it hangs")])
def test_a_description_has_a_deadline(end: Any) -> None:
    for port in (
        VoiceHandle(Handle(end), SILERO_STATE),
        RecogniserHandle(Handle(end)),
        SpeakerHandle(Handle(end)),
    ):  # type: ignore[arg-type]
        with pytest.raises(ReplicaLost, match="does not answer"):
            run_in_fake_time(port.describe())
    assert ports.DESCRIBE_DEADLINE_S < 10
