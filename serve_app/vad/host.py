"""One voice detector on one thread, tried on speech and on silence; in its own replica or in the ingress.

The detector keeps nothing between calls, so a call may be sent to another one where this one hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import numpy as np
import structlog

from serve_app.core.errors import ModelUnavailable, ReplicaUnhealthy
from serve_app.core.idle_check import IdleCheck
from serve_app.core.samples import Pcm16
from serve_app.core.watch import WorkWatch
from serve_app.vad.detector import (
    WINDOW_SAMPLES,
    PackedRequests,
    PackedResults,
    StateShape,
    VadRequest,
    VoiceDetector,
    pack_requests,
)

log = structlog.get_logger(__name__)

DEADLINE_S = 30.0
"""For one call on the thread: ten seconds of audio take some 20 ms."""
QUIET_S = 3.0
"""So long after the last call the detector is idle."""
MIN_SPEECH, MAX_SILENCE = 0.3, 0.1
"""The share of windows over 0.5: of the clip of speech at least, of silence at most."""


class VoiceHost:
    """Used from one event loop. `speech` is the clip that is tried; it costs some milliseconds a minute."""

    def __init__(
        self, detector: VoiceDetector, speech: Pcm16, *, clock: Callable[[], float] = monotonic
    ) -> None:
        """Tries the detector at once: blocking for milliseconds. Raises `ModelUnavailable`."""
        self._detector = detector
        self._clock = clock
        whole = len(speech) // WINDOW_SAMPLES * WINDOW_SAMPLES
        requests = [VadRequest(speech[:whole]), VadRequest(np.zeros(whole, np.int16))]
        self._canary = pack_requests(requests, detector.state_shape)
        if complaint := self._complaint(detector.detect_packed(self._canary)):
            raise ModelUnavailable(complaint)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="voice")
        self._watch = WorkWatch(clock)
        self._idle_check = IdleCheck(self._try, clock)
        self._called_s = clock()
        self._waiting: set[asyncio.Future[PackedResults]] = set()
        self._fault = ""

    @property
    def state_shape(self) -> StateShape:
        """Of the requests that it takes."""
        return self._detector.state_shape

    async def detect(self, batch: PackedRequests) -> PackedResults:
        """Probabilities and the states after them; the caller keeps the states. Raises `ReplicaUnhealthy`."""
        self._called_s = self._clock()
        return await self._on_thread(batch)

    def check(self) -> None:
        """To be called every few seconds, on the loop. Raises `ReplicaUnhealthy` once a call hangs or the
        detector hears no speech in speech, or some in silence; so does every call from then on."""
        if not self._fault:
            is_free = not self._waiting
            idle = is_free and self._clock() - self._called_s > QUIET_S
            overdue = self._watch.look()
            if overdue:
                self.give_up(f"{overdue}: the voice detector hangs")
            elif fault := self._idle_check.poll(idle=idle, has_room=is_free):
                self.give_up(fault)
        self.require_healthy()

    def give_up(self, fault: str) -> None:
        """No call is answered any more, nor are those under way: all raise `ReplicaUnhealthy`."""
        log.error("the voice detector gives up", reason=fault)
        self._fault = fault
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ReplicaUnhealthy(fault))

    def require_healthy(self) -> None:
        """Raises `ReplicaUnhealthy` where a check has found a fault."""
        if self._fault:
            raise ReplicaUnhealthy(self._fault)

    async def _try(self) -> str:
        return self._complaint(await self._on_thread(self._canary))

    def _complaint(self, result: PackedResults) -> str:
        speech, silence = result.probs[: result.counts[0]], result.probs[result.counts[0] :]
        if not np.isfinite(result.probs).all():
            return "the voice detector's probabilities are not numbers"
        if (heard := float(np.mean(speech > 0.5))) < MIN_SPEECH:
            return f"the voice detector hears speech in {heard:.0%} of a clip of speech"
        if (heard := float(np.mean(silence > 0.5))) > MAX_SILENCE:
            return f"the voice detector hears speech in {heard:.0%} of silence"
        return ""

    async def _on_thread(self, batch: PackedRequests) -> PackedResults:
        self.require_healthy()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[PackedResults] = loop.create_future()
        self._waiting.add(answer)
        work = self._thread.submit(self._run, batch, answer, loop)
        try:
            return await answer
        finally:
            self._waiting.discard(answer)
            work.cancel()

    def _run(
        self,
        batch: PackedRequests,
        answer: asyncio.Future[PackedResults],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        try:
            with self._watch.work("a call to the voice detector", DEADLINE_S):
                result = self._detector.detect_packed(batch)
        except Exception as error:
            loop.call_soon_threadsafe(_answer, answer, None, error)
        else:
            loop.call_soon_threadsafe(_answer, answer, result, None)


def _answer(
    waiting: asyncio.Future[PackedResults], result: PackedResults | None, error: Exception | None
) -> None:
    """Unless its caller has left, or was told that the detector is at fault."""
    if waiting.done():
        return
    if result is not None:
        waiting.set_result(result)
    elif error is not None:
        waiting.set_exception(error)
