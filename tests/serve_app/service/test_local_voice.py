"""The voice detector within the ingress: one that is at fault is replaced, and no session ends by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from fakes.fake_time import FakeClock
from serve_app.core.errors import ModelUnavailable, ReplicaUnhealthy
from serve_app.service import retries
from serve_app.service.local_voice import SOUND_AGAIN_S, LocalVoice
from serve_app.service.ports import ReplicaLost
from serve_app.vad.detector import SILERO_STATE, PackedRequests, PackedResults, VadRequest
from serve_app.vad.host import DEADLINE_S, VoiceHost

SPEECH = np.full(512 * 4, 5_000, np.int16)


class Detector:
    """Hears speech in what is loud, until it fails or hangs."""

    window_samples = 512
    state_shape = SILERO_STATE

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def detect_packed(self, batch: PackedRequests) -> PackedResults:
        self.entered.set()
        assert self.open.wait(60)
        if self.error is not None:
            raise self.error
        probs = (np.abs(batch.windows.astype(int)).max(1) > 1_000).astype(np.float32)
        return PackedResults(probs, batch.counts, batch.recurrent + 1, batch.context)


class Voice:
    """A `LocalVoice` with all the detectors that it has loaded."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.detectors: list[Detector] = []
        self.unloadable = False
        self.port = LocalVoice(self._load, clock=self.clock)

    def _load(self) -> VoiceHost:
        if self.unloadable:
            raise ModelUnavailable("no model")
        detector = Detector()
        self.detectors.append(detector)
        host = VoiceHost(detector, SPEECH, clock=self.clock)  # type: ignore[arg-type]
        detector.entered.clear()
        return host

    async def until(self, has_happened: Callable[[], bool]) -> None:
        while not has_happened():
            await asyncio.sleep(0.001)

    async def hears(self) -> bool:
        answers = await retries.detect_reliably(self.port, [VadRequest(SPEECH)] * 2, lambda: None)
        return all(answer.probs.all() and answer.state.recurrent.all() for answer in answers)


async def test_answers_of_many_sessions_in_one_call() -> None:
    voice = Voice()
    quiet = VadRequest(np.zeros(512, np.int16))
    heard = await voice.port.detect([VadRequest(SPEECH), quiet])
    assert [answer.probs.tolist() for answer in heard] == [[1.0] * 4, [0.0]]
    await voice.port.describe()
    voice.port.check()
    assert len(voice.detectors) == 1


async def test_a_detector_that_fails_is_replaced_and_the_call_made_again() -> None:
    voice = Voice()
    voice.detectors[0].error = RuntimeError("out of memory")
    assert await voice.hears()
    assert len(voice.detectors) == 2
    voice.port.check()
    await voice.port.describe()


async def test_a_detector_that_hangs_is_left_behind() -> None:
    voice = Voice()
    voice.detectors[0].open.clear()
    waiting = asyncio.create_task(voice.hears())
    await voice.until(voice.detectors[0].entered.is_set)
    for _ in range(round(DEADLINE_S / 5) + 1):
        voice.clock.pass_s(5)
        voice.port.check()
    with pytest.raises(ReplicaLost, match="hangs"):
        await voice.port.describe()
    assert await waiting
    assert len(voice.detectors) == 2
    await voice.port.describe()
    voice.detectors[0].open.set()


async def test_a_successor_that_fails_too_makes_the_process_unhealthy() -> None:
    voice = Voice()
    voice.detectors[0].error = RuntimeError()
    assert await voice.hears()
    voice.detectors[1].error = RuntimeError()
    with pytest.raises(ReplicaLost):
        await voice.port.detect([VadRequest(SPEECH)])
    with pytest.raises(ReplicaUnhealthy, match="failed twice"):
        voice.port.check()
    assert len(voice.detectors) == 2


async def test_a_successor_that_fails_much_later_is_replaced_as_well() -> None:
    voice = Voice()
    for number in range(3):
        voice.detectors[number].error = RuntimeError()
        assert await voice.hears()
        voice.clock.pass_s(SOUND_AGAIN_S + 1)
    voice.port.check()


async def test_where_no_other_can_be_loaded_the_process_is_unhealthy() -> None:
    voice = Voice()
    voice.unloadable, voice.detectors[0].error = True, RuntimeError()
    with pytest.raises(ReplicaLost):
        await voice.port.detect([VadRequest(SPEECH)])
    await voice.until(lambda: voice.port._renewing is None)
    with pytest.raises(ReplicaUnhealthy, match="ModelUnavailable"):
        voice.port.check()
    with pytest.raises(ReplicaLost):
        await voice.port.describe()


async def test_requests_of_a_wrong_shape_are_no_fault_of_the_detector() -> None:
    voice = Voice()
    with pytest.raises(ValueError, match="whole windows"):
        await voice.port.detect([VadRequest(np.zeros(100, np.int16))])
    voice.port.check()
    assert len(voice.detectors) == 1
