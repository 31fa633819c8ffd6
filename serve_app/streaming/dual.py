"""The `dual` policy: a fast model on the newest seconds, a good one on the finished utterance."""

from __future__ import annotations

from serve_app.core.jobs import Transcript
from serve_app.streaming.policy import Ask, InterimText
from serve_app.streaming.stable_prefix import StablePrefix


class DualPolicy:
    """Interims of overlapping windows joined to one text; the final replaces it."""

    def __init__(self, start_sample: int) -> None:
        self._start_sample = start_sample
        self._stable = StablePrefix()

    def ask_interim(self, end_sample: int, longest_samples: int) -> Ask:
        return Ask(max(self._start_sample, end_sample - longest_samples))

    def ask_final(self) -> Ask:
        return Ask(self._start_sample)

    def take(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        if not transcript.text.strip():
            return None
        return self._stable.update(
            transcript.text,
            window_start=ask.start_sample,
            window_end=end_sample,
            utterance_start=self._start_sample,
        )

    def preview(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        """A final ahead of time is an interim of good quality."""
        return self.take(transcript, ask, end_sample)

    def complete(self, transcript: Transcript, ask: Ask) -> Transcript:
        return transcript
