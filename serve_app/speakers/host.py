"""What a diarization replica runs: the live analyser and the recordings' diarizer, loaded when first needed.

Windows of live sessions go first: a recording waits between its batches while any are there.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from serve_app.core.errors import InferenceError, SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
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

CPU_NICENESS = 10
"""On a CPU text goes first: the recognisers share its cores with this process."""


class SpeakerHost:
    """Both of them on threads of their own, behind an event loop. `preload`: the live analyser is
    loaded at once."""

    def __init__(
        self,
        status: SpeakerStatus,
        *,
        load_live: Callable[[], Analyser],
        load_recordings: Callable[[], Diarizer],
        preload: bool = False,
    ) -> None:
        self._status = status
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
        return self._status

    async def listen(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        """One answer per window. Raises `InferenceError`, `ModelUnavailable`, `InvalidAudio`."""
        for window in windows:
            if window.audio.ndim != 1 or not 0 < len(window.audio) <= WINDOW_SAMPLES:
                raise InferenceError(f"a window of {window.audio.shape} samples")
        loop = asyncio.get_running_loop()
        samples = sum(len(window.audio) for window in windows)
        self._count_windows(len(windows))
        self._waiting_samples += samples
        try:
            return await loop.run_in_executor(self._live_thread, self._listen, list(windows))
        finally:
            self._count_windows(-len(windows))
            self._waiting_samples -= samples

    async def diarize(self, audio: Pcm16, counts: SpeakerCounts) -> AsyncIterator[float | Diarization]:
        """The share that is done, from time to time, then what was found. Raises as `listen` does."""
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
                waited: tuple[asyncio.Future[Any], ...] = (work, step)
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if step.done():
                    yield step.result()
                else:
                    step.cancel()
            yield work.result()
        finally:
            gone.set()
            self._waiting_samples -= len(audio)

    # -- on the threads ------------------------------------------------------------------------------

    def _listen(self, windows: list[SpeakerWindow]) -> list[WindowVoices]:
        live = self._analyser()
        try:
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
            with self._loading:
                self._diarizer = self._load_recordings()

        def pause() -> None:
            if gone.is_set():
                raise InferenceError("nobody waits for this recording any more")
            self._no_windows.wait(timeout=30)

        try:
            return self._diarizer.diarize(audio, counts, tell, pause)
        except SottoError:
            raise
        except Exception as error:
            log.exception("diarization failed", audio_s=round(len(audio) / SAMPLE_RATE_HZ))
            raise InferenceError("telling speakers apart failed") from error

    def _preload(self) -> None:
        try:
            self._analyser()
        except Exception:
            log.exception("the speaker models cannot be loaded")

    def _analyser(self) -> Analyser:
        if self._live is None:
            with self._loading:
                self._live = self._load_live()
        return self._live

    def _count_windows(self, change: int) -> None:
        self._num_waiting_windows += change
        if self._num_waiting_windows:
            self._no_windows.clear()
        else:
            self._no_windows.set()
