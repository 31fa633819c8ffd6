"""What a diarization replica runs: the live analyser and the recordings' diarizer, loaded when first needed.

Windows of live sessions go first: a recording waits between its batches while any are there.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np
import structlog

from serve_app.core.errors import InferenceError, ReplicaUnhealthy, SottoError
from serve_app.core.idle_check import IdleCheck
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.core.watch import WorkWatch
from serve_app.speakers.ports import (
    WINDOW_SAMPLES,
    Analyser,
    Diarizer,
    SpeakerStatus,
    SpeakerWindow,
    WindowVoices,
)
from serve_app.speakers.turns import Diarization, SpeakerCounts

log = structlog.get_logger(__name__)

LIVE_DEADLINE_S = 300.0
"""For one call: four windows take seconds, the first also loads the models."""
RECORDING_DEADLINE_S = 900.0
"""Without a sign of progress: clustering gives none, and takes minutes where hours were recorded."""
CANARY_PERIOD_S = 300.0
"""So long after the last call the live analyser is tried."""
CPU_NICENESS = 10
"""On a CPU text goes first: the recognisers share its cores with this process."""


class SpeakerHost:
    """Both of them on threads of their own, behind an event loop.

    `preload`: the live analyser is loaded at once. `clip`: speech that it is tried with while it is idle.
    `clock`: what calls that hang are noticed by.
    """

    def __init__(
        self,
        status: SpeakerStatus,
        *,
        load_live: Callable[[], Analyser],
        load_recordings: Callable[[], Diarizer],
        preload: bool = False,
        load_deadline_s: float = LIVE_DEADLINE_S,
        clip: Pcm16 | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._status = status
        self._watch = WorkWatch(clock)
        self._clock = clock
        self._clip = clip
        self._idle_check = IdleCheck(self._try, clock)
        self._asked_s = clock()
        self._load_deadline_s = load_deadline_s
        self._fault = ""
        self._failed = asyncio.Event()
        self._load_live = load_live
        self._load_recordings = load_recordings
        self._live_thread = ThreadPoolExecutor(1, thread_name_prefix="speakers-live")
        self._recordings_thread = ThreadPoolExecutor(1, thread_name_prefix="speakers-recordings")
        self._loading = threading.Lock()
        self._live: Analyser | None = None
        self._diarizer: Diarizer | None = None
        self._num_waiting_windows = 0
        self._no_windows = threading.Event()
        self._no_windows.set()
        self._waiting_samples = 0
        if self._status.device == "cpu" and hasattr(os, "nice"):
            os.nice(CPU_NICENESS)
        if preload and status.available:
            self._live_thread.submit(self._preload)

    @property
    def waiting_audio_s(self) -> float:
        """Audio that has been asked about and not been answered."""
        return self._waiting_samples / SAMPLE_RATE_HZ

    def describe(self) -> SpeakerStatus:
        return replace(self._status, warm=self._live is not None)

    def check(self) -> None:
        """To be called every few seconds, on the loop. Raises `ReplicaUnhealthy` once a call hangs or a
        loaded analyser hears no voice in `clip`: all calls end with this error, and none is taken any more.
        """
        if not self._fault:
            overdue = self._watch.look()
            self._fault = f"{overdue}: the model hangs" if overdue else self._poll_canary()
            if self._fault:
                log.error("the diarizer gives up", reason=self._fault)
                self._failed.set()
        self.require_healthy()

    def require_healthy(self) -> None:
        """Raises `ReplicaUnhealthy` where a check has found a fault."""
        if self._fault:
            raise ReplicaUnhealthy(self._fault)

    def _poll_canary(self) -> str:
        """Every five minutes at most: a window costs up to a second of a core."""
        if self._clip is None or self._live is None:
            return ""
        is_free = not self._waiting_samples
        quiet = self._clock() - self._asked_s > CANARY_PERIOD_S
        return self._idle_check.poll(idle=is_free and quiet, has_room=is_free)

    async def _try(self) -> str:
        assert self._clip is not None
        (voices,) = await self.listen([SpeakerWindow(self._clip[:WINDOW_SAMPLES])])
        if not (np.isfinite(voices.embeddings).all() and np.isfinite(voices.clean_s).all()):
            return "the voices of a known clip are not numbers"
        return "" if voices.activity.any() else "no voice is heard in a clip of speech"

    async def listen(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        """One answer per window. Raises `InferenceError`, `ModelUnavailable`, `InvalidAudio`."""
        for window in windows:
            if window.audio.ndim != 1 or not 0 < len(window.audio) <= WINDOW_SAMPLES:
                raise InferenceError(f"a window of {window.audio.shape} samples")
        self.require_healthy()
        loop = asyncio.get_running_loop()
        self._asked_s = self._clock()
        samples = sum(len(window.audio) for window in windows)
        self._count_windows(len(windows))
        self._waiting_samples += samples
        work = loop.run_in_executor(self._live_thread, self._listen, list(windows))
        try:
            await self._first_of(work)
            return work.result()
        finally:
            work.cancel()
            self._count_windows(-len(windows))
            self._waiting_samples -= samples

    async def diarize(self, audio: Pcm16, counts: SpeakerCounts) -> AsyncGenerator[float | Diarization, None]:
        """The share that is done, from time to time, then what was found. Raises as `listen` does."""
        self.require_healthy()
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[float] = asyncio.Queue()
        gone = threading.Event()

        def tell(share: float) -> None:
            loop.call_soon_threadsafe(told.put_nowait, share)

        self._waiting_samples += len(audio)
        work = loop.run_in_executor(self._recordings_thread, self._diarize, audio, counts, tell, gone)
        try:
            while not work.done():
                step = asyncio.ensure_future(told.get())
                try:
                    await self._first_of(work, step)
                    if step.done():
                        yield step.result()
                finally:
                    step.cancel()
            yield work.result()
        finally:
            gone.set()
            self._waiting_samples -= len(audio)

    async def _first_of(self, *work: asyncio.Future[Any]) -> None:
        """Wait until one of them is done. Raises `ReplicaUnhealthy` where a call hangs."""
        failed = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait((*work, failed), return_when=asyncio.FIRST_COMPLETED)
            if not any(part.done() for part in work):
                self.require_healthy()
        finally:
            failed.cancel()

    # -- on the threads ------------------------------------------------------------------------------

    def _listen(self, windows: list[SpeakerWindow]) -> list[WindowVoices]:
        live = self._analyser()
        try:
            with self._watch.work(f"a call with {len(windows)} windows", LIVE_DEADLINE_S):
                return live.analyse(windows)
        except SottoError:
            raise
        except Exception as error:
            log.exception("speaker windows failed", num_windows=len(windows))
            raise InferenceError("telling speakers apart failed") from error

    def _diarize(
        self, audio: Pcm16, counts: SpeakerCounts, tell: Callable[[float], None], gone: threading.Event
    ) -> Diarization:
        if self._diarizer is None:
            with self._loading, self._watch.work("loading the diarizer", self._load_deadline_s):
                self._diarizer = self._load_recordings()
        work = self._watch.begin("a recording's turn without progress", RECORDING_DEADLINE_S)

        def progress(share: float) -> None:
            self._watch.progressed(work)
            tell(share)

        def pause() -> None:
            if gone.is_set():
                raise InferenceError("nobody waits for this recording any more")
            self._no_windows.wait(timeout=30)
            self._watch.progressed(work)

        try:
            return self._diarizer.diarize(audio, counts, progress, pause)
        except SottoError:
            raise
        except Exception as error:
            log.exception("diarization failed", audio_s=round(len(audio) / SAMPLE_RATE_HZ))
            raise InferenceError("telling speakers apart failed") from error
        finally:
            self._watch.end(work)

    def _preload(self) -> None:
        try:
            self._analyser()
        except Exception:
            log.exception("the speaker models cannot be loaded")

    def _analyser(self) -> Analyser:
        if self._live is None:
            with self._loading, self._watch.work("loading the speaker models", self._load_deadline_s):
                self._live = self._load_live()
        return self._live

    def _count_windows(self, change: int) -> None:
        self._num_waiting_windows += change
        if self._num_waiting_windows:
            self._no_windows.clear()
        else:
            self._no_windows.set()
