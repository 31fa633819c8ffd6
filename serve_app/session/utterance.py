"""The utterance being spoken: its interim text, and the final that is computed ahead of time."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve_app.asr.jobs import Transcript
from serve_app.events import Partial, Timing
from serve_app.streaming.stable_prefix import StablePrefix


@dataclass(slots=True)
class Speculation:
    """A final decoded during the endpoint silence; good only for exactly this stretch."""

    key: int
    start_sample: int
    end_sample: int
    transcript: Transcript | None = None
    timing: Timing = field(default_factory=Timing)

    def covers(self, start_sample: int, end_sample: int) -> bool:
        return (self.start_sample, self.end_sample) == (start_sample, end_sample)


@dataclass(slots=True)
class Utterance:
    """Interim state of one open utterance; `covered_sample` is the end of what was sent to be decoded."""

    utterance_id: str
    start_sample: int
    covered_sample: int
    pause_end_sample: int | None = None
    interim_key: int | None = None
    interim_window: tuple[int, int] = (0, 0)
    speculation: Speculation | None = None
    stable: StablePrefix = field(default_factory=StablePrefix)
    shown_sample: int = 0

    def speculation_wanted(self) -> bool:
        """The utterance pauses and the text for its end as of now is neither there nor on its way."""
        if self.pause_end_sample is None:
            return False
        known = self.speculation
        return known is None or not known.covers(self.start_sample, self.pause_end_sample)

    def partial(
        self, transcript: Transcript, window: tuple[int, int], confidence: float, timing: Timing
    ) -> Partial | None:
        """Interim text after one more decode; None where it says nothing or is older than what was shown."""
        start, end = window
        if not transcript.text.strip() or end <= self.shown_sample:
            return None
        text = self.stable.update(
            transcript.text, window_start=start, window_end=end, utterance_start=self.start_sample
        )
        self.shown_sample = end
        return Partial(
            utterance_id=self.utterance_id,
            text=text.text,
            stable_chars=text.stable_chars,
            confidence=confidence,
            language=transcript.language,
            start_sample=self.start_sample,
            end_sample=end,
            timing=timing,
        )
