"""Speech probabilities for the windows of many sessions in one call; keeps no state between calls."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deployments.sealing import seal_calls
from serve_app.assembly.process import set_up_process
from serve_app.assembly.voice_activity import load_detector
from serve_app.settings import Settings
from serve_app.vad.detector import PackedRequests, PackedResults


class VoiceActivity:
    """One detector and the one thread that runs it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        known = Settings.from_dict(settings)
        set_up_process(known)
        if known.privacy == "strict":
            seal_calls(self)
        self._detector = load_detector(known.vad_backend)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="voice")

    async def detect(self, batch: PackedRequests) -> PackedResults:
        """Probabilities and the states after them; the caller keeps the states."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._detector.detect_packed, batch)

    def check_health(self) -> None:
        """Serve restarts the replica when this raises; the detector cannot fail without raising per call."""
