"""The `dual` policy: a fast model on the newest seconds, a good one on the finished utterance."""

from __future__ import annotations

from serve_app.core.jobs import Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.streaming.policy import Ask, InterimText
from serve_app.streaming.stable_prefix import StablePrefix, split_units

LONG_WINDOW_S = 4.0
"""From here on an interim is asked for the times of its words, and the next one begins among the stable ones:
most of what is encoded again and again is text that stays as it is."""
NUM_OVERLAPPING_WORDS = 3
"""Stable words that the next window has in it, by which its text is joined to what is known."""
_MARGIN_S = 0.2
"""Before the first of them, as far as no other word is there."""


class DualPolicy:
    """Interims of overlapping windows joined to one text; the final replaces it."""

    def __init__(self, start_sample: int) -> None:
        self._start_sample = start_sample
        self._stable = StablePrefix()
        self._window_start = start_sample
        self._before: list[str] = []

    def ask_interim(self, end_sample: int, longest_samples: int) -> Ask:
        start = max(self._window_start, end_sample - longest_samples)
        long = end_sample - start > LONG_WINDOW_S * SAMPLE_RATE_HZ
        before = "".join(self._before).strip() if start == self._window_start else ""
        return Ask(start, before=before, word_timestamps=long)

    def ask_final(self) -> Ask:
        return Ask(self._start_sample)

    def take(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        if not transcript.text.strip():
            return None
        text = self._stable.update(
            transcript.text,
            window_start=ask.start_sample,
            window_end=end_sample,
            utterance_start=self._start_sample,
            num_before=len(self._before) if ask.start_sample == self._window_start else 0,
        )
        self._move_window(transcript, ask)
        return text

    def preview(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        """A final ahead of time is an interim of good quality."""
        return self.take(transcript, ask, end_sample)

    def complete(self, transcript: Transcript, ask: Ask) -> Transcript:
        return transcript

    def _move_window(self, transcript: Transcript, ask: Ask) -> None:
        """The next window begins at the last stable words of this answer, where their times are known."""
        words, kept = transcript.words, self._stable.num_open + NUM_OVERLAPPING_WORDS
        if len(words) <= kept or len(words) != len(split_units(transcript.text)):
            return
        start_s = max(words[-kept - 1].end_s, words[-kept].start_s - _MARGIN_S)
        moved = ask.start_sample + round(start_s * SAMPLE_RATE_HZ)
        if moved > self._window_start:
            self._window_start, self._before = moved, self._stable.before_last(kept)
