"""What all that listen to recordings have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16
from serve_app.speakers.recordings.turn_lists import to_diarization
from serve_app.speakers.turns import Diarization, SpeakerCounts, Turn


class RecordingDiarizer(ABC):
    """A `Diarizer` made of a model's turns. One call at a time."""

    def diarize(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None] = lambda: None,
    ) -> Diarization:
        """Who spoke in int16 `(num_samples,)` audio at 16 kHz. `progress` hears the share done, up to 1;
        `pause` is called between batches, and may wait, or raise to end the work."""
        turns, exclusive = self._turns(audio, counts, progress, pause) if len(audio) else ((), ())
        progress(1.0)
        return to_diarization(turns, exclusive, len(audio) / SAMPLE_RATE_HZ)

    @abstractmethod
    def _turns(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> tuple[list[Turn], list[Turn]]:
        """All turns in at least one sample of audio, then the same without overlap."""
