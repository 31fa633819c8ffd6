"""What a backend that tells speakers apart has to be able to do; both calls block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from serve_app.asr.jobs import Pcm16
from serve_app.speakers.turns import Diarization, SpeakerCounts
from serve_app.speakers.windows import SpeakerWindow, WindowVoices


class Analyser(Protocol):
    """Listens to windows of live sessions."""

    def analyse(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        """The voices of each window, in order."""


class Diarizer(Protocol):
    """Listens to recordings."""

    def diarize(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> Diarization:
        """Who spoke in int16 `(n,)` audio. `progress` hears the share done; `pause` is called between
        batches: it may wait, and raise to end the work."""
