"""The utterance being spoken: its interim text, and the final that is computed ahead of time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from serve_app.core.events import Partial, Timing
from serve_app.core.jobs import Transcript
from serve_app.streaming.policy import Ask, InterimText, StreamingPolicy


@dataclass(slots=True)
class Speculation:
    """A final decoded during the endpoint silence; good only for exactly this stretch and this ask."""

    key: int
    ask: Ask
    end_sample: int
    transcript: Transcript | None = None
    timing: Timing = field(default_factory=Timing)

    def covers(self, ask: Ask, end_sample: int) -> bool:
        return (self.ask, self.end_sample) == (ask, end_sample)


@dataclass(frozen=True, slots=True)
class PendingInterim:
    """One interim on its way."""

    key: int
    ask: Ask
    end_sample: int


@dataclass(slots=True)
class Utterance:
    """Interim state of one open utterance; `covered_sample` is the end of what was sent to be decoded."""

    utterance_id: str
    start_sample: int
    covered_sample: int
    policy: StreamingPolicy
    pause_end_sample: int | None = None
    interim: PendingInterim | None = None
    speculation: Speculation | None = None
    shown_sample: int = 0
    language: str | None = None
    """What the text that the final begins with was written in, so that the rest is written in it too."""
    shown: Transcript | None = None
    """The newest text that was shown."""

    @property
    def interim_language(self) -> str | None:
        """What interims are written in: the language of the first one that was shown."""
        return self.language or (None if self.shown is None else self.shown.language)

    def speculation_wanted(self) -> bool:
        """The utterance pauses and the text for its end as of now is neither there nor on its way."""
        if self.pause_end_sample is None:
            return False
        known = self.speculation
        return known is None or not known.covers(self.policy.ask_final(), self.pause_end_sample)

    def interim_answered(self, transcript: Transcript) -> InterimText | None:
        """Take the interim's text; None where it says nothing or is older than what was shown."""
        interim, self.interim = self.interim, None
        if interim is None or interim.end_sample <= self.shown_sample:
            return None
        text = self.policy.take(transcript, interim.ask, interim.end_sample)
        if text is not None:
            self.shown_sample = interim.end_sample
            if self.language is None and self.policy.ask_final().prefix:
                self.language = transcript.language
        return text

    def speculation_answered(self, transcript: Transcript, timing: Timing) -> InterimText | None:
        """Keep the text ahead of time; it is shown like an interim."""
        known = self.speculation
        assert known is not None
        known.transcript, known.timing = transcript, timing
        if known.end_sample <= self.shown_sample or transcript.doubted:
            return None
        if self.shown is not None and self.shown.language != transcript.language:
            return None  # the final will say it: interim text does not change its language
        text = self.policy.preview(transcript, known.ask, known.end_sample)
        if text is not None:
            self.shown_sample = known.end_sample
        return text

    def partial(self, text: InterimText, transcript: Transcript, timing: Timing) -> Partial:
        """The event that shows this text."""
        self.shown = replace(transcript, text=text.text, words=())
        return Partial(
            utterance_id=self.utterance_id,
            text=text.text,
            stable_chars=text.stable_chars,
            confidence=transcript.confidence,
            language=transcript.language,
            start_sample=self.start_sample,
            end_sample=self.shown_sample,
            timing=timing,
        )


def draft_of(ask: Ask, shown: Transcript | None) -> str:
    """What the answer probably goes on with behind the ask's prefix: the utterance's newest text, less what
    is known to lie before. A window that has moved on may begin inside of it."""
    text = "" if shown is None else shown.text.strip()
    for known in (ask.before, ask.previous.strip(), ask.prefix.strip()):
        text = text.removeprefix(known).strip()
    return text


def timing_of(transcript: Transcript, total_ms: float) -> Timing:
    """What a client is told of where a decode's time went."""
    parts = transcript.timing
    return Timing(
        preprocess_ms=parts.preprocess_ms,
        queue_wait_ms=parts.queue_wait_ms,
        inference_ms=parts.inference_ms,
        postprocess_ms=parts.postprocess_ms,
        total_ms=total_ms,
        model=transcript.model,
    )
