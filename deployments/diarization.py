"""Who speaks: voices in windows of live sessions, and turns of whole recordings, in a process of its own.

pyannote.audio and torch take a gigabyte and many seconds to import; nothing else in the graph imports them.
They are loaded when they are first needed, or right after the start where speakers are told apart by default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from deployments.gpu_share import publish_own_gpu_metrics
from deployments.sealing import seal_calls
from serve_app.assembly.process import set_up_process
from serve_app.assembly.speakers import speaker_host
from serve_app.core.samples import Pcm16
from serve_app.service.signs_of_life import with_beats
from serve_app.settings import Settings
from serve_app.speakers import turns
from serve_app.speakers.ports import SpeakerStatus, SpeakerWindow, WindowVoices


class Diarization:
    """Live windows and recordings on a thread each; a recording pauses while windows wait."""

    def __init__(self, settings: dict[str, Any]) -> None:
        known = Settings.from_dict(settings)
        set_up_process(known)
        if known.privacy == "strict":
            seal_calls(self)
        self._host = speaker_host(known)
        publish_own_gpu_metrics(known)

    async def listen(self, windows: list[SpeakerWindow]) -> list[WindowVoices]:
        """The voices of each window."""
        return await self._host.listen(windows)

    async def diarize(
        self, audio: Pcm16, counts: turns.SpeakerCounts
    ) -> AsyncIterator[float | turns.Diarization | None]:
        """The share that is done, from time to time, then what was found; None: a sign of life meanwhile."""
        async for answer in with_beats(self._host.diarize(audio, counts)):
            yield answer

    async def describe(self) -> SpeakerStatus:
        """What runs here, and whether it is loaded. Raises `ReplicaUnhealthy`."""
        self._host.require_healthy()
        return self._host.describe()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Seconds of audio that wait, as the recognisers report them."""
        return {"waiting_audio_s": self._host.waiting_audio_s}

    async def check_health(self) -> None:
        """Serve replaces the replica when this has raised three times in a row."""
        self._host.check()
