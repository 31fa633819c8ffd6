"""What a voice-activity replica runs: one detector on one thread, tried on speech and on silence.

The detector keeps nothing between calls, so a call may be sent to another replica where this one hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

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
        self._num_calls = 0
        self._called_s = clock()
        self._failed = asyncio.Event()
        self._fault = ""

    async def detect(self, batch: PackedRequests) -> PackedResults:
        """Probabilities and the states after them; the caller keeps the states. Raises `ReplicaUnhealthy`."""
        self._called_s = self._clock()
        return await self._on_thread(batch)

    def check(self) -> None:
        """To be called every few seconds, on the loop. Raises `ReplicaUnhealthy` once a call hangs or the
        detector hears no speech in speech, or some in silence; so does every call from then on."""
        if not self._fault:
            is_free = self._num_calls == 0
            idle = is_free and self._clock() - self._called_s > QUIET_S
            overdue = self._watch.look()
            self._fault = (
                f"{overdue}: the voice detector hangs"
                if overdue
                else self._idle_check.poll(idle=idle, has_room=is_free)
            )
            if self._fault:
                log.error("the voice detector gives up", reason=self._fault)
                self._failed.set()
        self.require_healthy()

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
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._run, batch)
        self._num_calls += 1
        failed = asyncio.ensure_future(self._failed.wait())
        waited: tuple[asyncio.Future[Any], ...] = (work, failed)
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.require_healthy()
            return work.result()
        finally:
            self._num_calls -= 1
            failed.cancel()
            work.cancel()

    def _run(self, batch: PackedRequests) -> PackedResults:
        with self._watch.work("a call to the voice detector", DEADLINE_S):
            return self._detector.detect_packed(batch)
