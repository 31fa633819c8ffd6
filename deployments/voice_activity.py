"""Speech probabilities for the windows of many sessions in one call; keeps no state between calls."""

from __future__ import annotations

from typing import Any

from deployments.sealing import seal_calls
from serve_app.assembly.load_time import load_within
from serve_app.assembly.process import set_up_process
from serve_app.assembly.voice_activity import voice_host
from serve_app.settings import Settings
from serve_app.vad.detector import PackedRequests, PackedResults


class VoiceActivity:
    """One detector and the one thread that runs it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        known = Settings.from_dict(settings)
        set_up_process(known)
        if known.privacy == "strict":
            seal_calls(self)
        self._host = load_within(known.model_load_timeout_s, "the voice detector", lambda: voice_host(known))

    async def detect(self, batch: PackedRequests) -> PackedResults:
        """Probabilities and the states after them; the caller keeps the states."""
        return await self._host.detect(batch)

    async def describe(self) -> None:
        """Answers where the detector is loaded and hears. Raises `ReplicaUnhealthy`."""
        self._host.require_healthy()

    async def check_health(self) -> None:
        """Serve replaces the replica when this has raised three times in a row."""
        self._host.check()
