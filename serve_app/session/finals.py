"""Finished utterances on their way to text: answers come in any order, finals leave in the one spoken."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from serve_app.asr.confidence import MAX_DOUBTED
from serve_app.asr.guards import MEASURED, DecodeEvidence, Reason, is_stale_repeat, may_be_stale
from serve_app.core.events import (
    Acknowledged,
    Final,
    SessionError,
    SpeakerRevision,
    Timing,
)
from serve_app.core.jobs import Transcript, Word
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.formatting import FormattingOptions, format_text, format_words
from serve_app.session.checkpoint import Checkpoint, UnlabelledFinal
from serve_app.session.language import LanguageTracker
from serve_app.session.overlap import join_words, trim_overlap
from serve_app.session.speakers import Labels, SpeakerTrack, labelled
from serve_app.session.ticket import IssueTicket
from serve_app.streaming.policy import Ask, StreamingPolicy
from serve_app.vad.endpointer import Closed

MAX_DOUBTFUL = MEASURED.max_repeats
MAX_CONTEXT_CHARS = 300
"""Some sixty words: Whisper was trained with more, but old text helps no more and costs decoding."""


@dataclass(slots=True)
class PendingFinal:
    """One closed utterance; done once it has a transcript or a failure."""

    number: int
    closed: Closed
    after_cut_sample: int | None
    policy: StreamingPolicy
    ask: Ask
    language: str | None = None
    key: int | None = None
    shown: Transcript | None = None
    """The newest interim text: what is left where the final has none."""
    transcript: Transcript | None = None
    failure: SessionError | None = None
    timing: Timing = field(default_factory=Timing)

    @property
    def done(self) -> bool:
        return self.transcript is not None or self.failure is not None

    def answered(self, transcript: Transcript, timing: Timing) -> None:
        """Its text has come."""
        self.transcript, self.timing = self.policy.complete(transcript, self.ask), timing

    def failed(self, failure: SessionError) -> None:
        """It will get no text; what was certain of it already is kept."""
        self.failure = failure
        if self.ask.prefix or self.ask.previous:
            self.answered(_no_text(self.language or ""), Timing())

    @property
    def needs_words(self) -> bool:
        """Words on both sides of a cut are told apart by their times."""
        return self.closed.cut or self.after_cut_sample is not None


class FinalsInOrder:
    """The queue of pending finals, and the checkpoint that follows the last one delivered."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        language: LanguageTracker,
        *,
        overlap_s: float,
        carry_context: bool,
        formatting: FormattingOptions,
        issue_ticket: IssueTicket,
        says_doubted: bool = True,
        says_withheld: bool = False,
        speakers: SpeakerTrack | None = None,
    ) -> None:
        """`says_doubted`: text that a guard does not believe goes out, since a detector heard speech;
        `says_withheld`: where it does not, that is said."""
        self._speakers = speakers
        self._says_doubted = says_doubted
        self._says_withheld = says_withheld
        self._formatting = formatting
        self._issue_ticket = issue_ticket
        self._queue: deque[PendingFinal] = deque()
        self._carry_context = carry_context
        self._language = language
        self._overlap_s = overlap_s
        self.checkpoint = checkpoint

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def head(self) -> PendingFinal | None:
        return self._queue[0] if self._queue else None

    def add(self, pending: PendingFinal) -> None:
        self._queue.append(pending)

    def by_key(self, key: int) -> PendingFinal | None:
        return next((pending for pending in self._queue if pending.key == key), None)

    def clear(self) -> None:
        self._queue.clear()

    def pop_ready(self) -> list[Final | Acknowledged | SessionError]:
        """Deliver from the front what is done; an utterance without a final is only acknowledged."""
        events: list[Final | Acknowledged | SessionError] = []
        while self._queue and self._queue[0].done:
            pending = self._queue.popleft()
            if pending.failure is not None:
                events.append(pending.failure)
            events.append(self._deliver(pending) or self._acknowledged())
        return events

    def skip_to(self, sample: int) -> Acknowledged | None:
        """Everything up to `sample` was silence; None where finals before it still wait."""
        if self._queue:
            return None
        self.checkpoint = replace(self.checkpoint, sample=sample)
        return self._acknowledged()

    def revised(self, final: UnlabelledFinal, labels: Labels) -> SpeakerRevision:
        """Other labels for a final that was sent, with a ticket that knows of them."""
        self._note_speakers()
        return SpeakerRevision(
            utterance_id=final.utterance_id,
            sequence=final.sequence,
            speaker=labels.speaker,
            word_speakers=labels.words,
            start_sample=final.start_sample,
            end_sample=final.end_sample,
            resume_sample=self.checkpoint.resume_sample,
            ticket=self._issue_ticket(self.checkpoint),
        )

    def _acknowledged(self) -> Acknowledged:
        self._note_speakers()
        return Acknowledged(self.checkpoint.resume_sample, self._issue_ticket(self.checkpoint))

    def _note_speakers(self) -> None:
        if self._speakers is not None:
            known = self._speakers.checkpoint(self.checkpoint.sample)
            self.checkpoint = replace(self.checkpoint, speakers=known)

    def _deliver(self, pending: PendingFinal) -> Final | None:
        """The utterance's final, and the checkpoint behind it.

        None where nothing was said and nothing had been shown. An utterance whose interim text was shown has
        a final in any case: with that text where the decode gave none, empty where there is nothing to say.
        """
        closed, transcript = pending.closed, _best_text(pending, use_shown=self._says_doubted)
        audio_s = (closed.end_sample - closed.start_sample) / SAMPLE_RATE_HZ
        words = self._words(pending, transcript)
        text = transcript.text.strip()
        evidence = _evidence(transcript, audio_s) if text else None
        doubted = transcript.doubted
        if evidence is not None and is_stale_repeat(evidence, self.checkpoint.doubtful):
            doubted = doubted or Reason.REPEATED.value
        withheld = transcript.rejected if pending.shown is not None else ""
        if text and doubted and not self._says_doubted:
            withheld, text, words = doubted, "", ()
        if text and pending.needs_words and transcript.words:
            # Nothing may be left of it: all of its words were the neighbours'.
            text = join_words(words)
        if text and not doubted:
            self._language.observe(transcript.language, transcript.language_probability, audio_s)
        is_said = bool(text) or pending.shown is not None or (bool(withheld) and self._says_withheld)
        self.checkpoint = Checkpoint(
            sample=closed.resume_sample,
            utterance=pending.number + 1,
            sequence=self.checkpoint.sequence + bool(text),
            cut_sample=closed.cut_sample,
            last_word=(words[-1] if words else self.checkpoint.last_word) if closed.cut else None,
            context=self._context(transcript, text, believed=not doubted),
            doubtful=() if evidence is None else (*self.checkpoint.doubtful, evidence)[-MAX_DOUBTFUL:],
            language_evidence=dict(self._language.evidence),
            speakers=self.checkpoint.speakers,
        )
        if not is_said:
            return None
        said = replace(transcript, text=text, words=words, doubted=doubted if text else "")
        return self._final(pending, said, withheld)

    def _final(self, pending: PendingFinal, transcript: Transcript, withheld: str) -> Final:
        closed, text, words = pending.closed, transcript.text, transcript.words
        continues = pending.after_cut_sample is not None
        if self._formatting.any and text:
            words = format_words(words, transcript.language, self._formatting, continues=continues)
            text = format_text(text, transcript.language, self._formatting, continues=continues)
        name, sequence = utterance_id(pending.number), self.checkpoint.sequence - bool(text)
        speaker: int | None = None
        if self._speakers is not None and text:
            whole = (closed.start_sample / SAMPLE_RATE_HZ, closed.end_sample / SAMPLE_RATE_HZ)
            spans = tuple((word.start_s, word.end_s) for word in words) or (whole,)
            labels = self._speakers.sent(
                UnlabelledFinal(
                    name, sequence, closed.start_sample, closed.end_sample, spans, (None,) * len(spans)
                )
            )
            speaker, words = labels.speaker, labelled(words, labels) if words else ()
            self._note_speakers()
        confidence = min(transcript.confidence, MAX_DOUBTED) if transcript.doubted else transcript.confidence
        return Final(
            utterance_id=name,
            sequence=sequence,
            text=text,
            words=words,
            confidence=confidence if text else 0.0,
            avg_logprob=transcript.avg_logprob,
            language=transcript.language,
            language_probability=transcript.language_probability,
            start_sample=closed.start_sample,
            end_sample=closed.end_sample,
            resume_sample=self.checkpoint.resume_sample,
            timing=pending.timing,
            decided_sample=closed.decided_sample,
            ticket=self._issue_ticket(self.checkpoint),
            speaker=speaker,
            next_sample=closed.resume_sample,
            doubted=transcript.doubted,
            withheld=withheld if not text else "",
        )

    def _context(self, transcript: Transcript, text: str, *, believed: bool) -> str:
        """The newest text, whole words of it; a loop ends it, or the next utterance would go on with it."""
        if not self._carry_context or transcript.looped or transcript.rejected or not believed:
            return ""
        context = f"{self.checkpoint.context} {text}".strip()
        if len(context) <= MAX_CONTEXT_CHARS:
            return context
        return context[-MAX_CONTEXT_CHARS:].partition(" ")[2]

    def _words(self, pending: PendingFinal, transcript: Transcript) -> tuple[Word, ...]:
        """The utterance's words on the session's clock, the overlaps trimmed."""
        offset_s = pending.closed.start_sample / SAMPLE_RATE_HZ
        words = tuple(word.shifted(offset_s) for word in transcript.words)
        if not pending.needs_words:
            return words
        cut = pending.closed.cut_sample
        before = pending.after_cut_sample
        return trim_overlap(
            words,
            cut_before_s=None if before is None else before / SAMPLE_RATE_HZ,
            cut_after_s=None if cut is None else cut / SAMPLE_RATE_HZ,
            last_word=self.checkpoint.last_word,
            overlap_s=self._overlap_s,
        )


def _best_text(pending: PendingFinal, *, use_shown: bool) -> Transcript:
    """The final's own text; where it has none, what was shown of the utterance, marked as doubted."""
    transcript, shown = pending.transcript, pending.shown
    if transcript is None:
        transcript = _no_text(pending.language or "")
    if transcript.text.strip() or shown is None or not use_shown:
        return transcript
    return replace(shown, doubted=transcript.rejected or transcript.doubted or Reason.NO_WORDS.value)


def _no_text(language: str) -> Transcript:
    return Transcript(
        job_id=0,
        text="",
        language=language,
        language_probability=0.0,
        avg_logprob=0.0,
        no_speech_prob=0.0,
        model="",
    )


def _evidence(transcript: Transcript, audio_s: float) -> DecodeEvidence | None:
    """What the guard against repeats must remember of a final; None where it is believable."""
    evidence = DecodeEvidence(
        transcript.text.strip(), transcript.avg_logprob, transcript.no_speech_prob, audio_s
    )
    return evidence if may_be_stale(evidence) else None


def utterance_id(number: int) -> str:
    return f"seg-{number + 1:04d}"
