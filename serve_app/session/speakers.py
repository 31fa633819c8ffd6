"""Who speaks in a live session: what is still to be listened to, and the labels of finals that were sent.

Labels follow text and never hold it up. A window of audio is listened to when an utterance pauses or ends,
and every `step` within a long one; at most one is on its way, and what comes due meanwhile is in the next.
So a busy diarizer makes labels later, not wrong, and the lag is bounded: audio is forgotten unheard only when
a minute of speech waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TypeAlias

from serve_app.audio.ring import SampleBuffer
from serve_app.core.jobs import Word
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.session.checkpoint import SpeakerCheckpoint, UnlabelledFinal
from serve_app.speakers.live.labeller import LabellerOptions, OnlineLabeller
from serve_app.speakers.live.labeller_state import MAX_LIVE_SPEAKERS, LabellerState
from serve_app.speakers.ports import WINDOW_SAMPLES, SpeakerWindow, WindowVoices
from serve_app.speakers.turns import SpeakerCounts

MAX_HELD_SAMPLES = 60 * SAMPLE_RATE_HZ
MIN_NEW_SAMPLES = SAMPLE_RATE_HZ
"""A pause after less speech than this is not worth a window: the utterance's end is."""
MAX_CONTEXT_SAMPLES = 30 * SAMPLE_RATE_HZ
"""The most that a client keeps of its audio for labels that were not known when its ticket was made."""
MAX_TICKET_WORDS = 250
"""A ticket has a limit: half a minute holds a hundred words."""
USUAL_MOST = 8

Spans: TypeAlias = tuple[tuple[float, float], ...]
Speakers: TypeAlias = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class SpeakerRequest:
    """Listen to `window`, whose first sample is `start_sample` of the session."""

    start_sample: int
    end_sample: int
    window: SpeakerWindow


@dataclass(frozen=True, slots=True)
class Labels:
    """Who spoke a final: `speaker` most of it, and each of its words."""

    speaker: int | None = None
    words: tuple[int | None, ...] = ()


@dataclass(slots=True)
class _Sent:
    final: UnlabelledFinal
    labels: Labels


class SpeakerTrack:
    """The labeller of one session with the audio around it; indices are samples of the session."""

    def __init__(
        self, counts: SpeakerCounts, first_sample: int, checkpoint: SpeakerCheckpoint | None
    ) -> None:
        """`first_sample`: the next one that is pushed."""
        state = LabellerState.from_bytes(checkpoint.state) if checkpoint and checkpoint.state else None
        self._labeller = OnlineLabeller(_options(counts), state)
        self._begins_s = state.until_s if state is not None else 0.0
        self._buffer = SampleBuffer(first_sample)
        self._heard_until = first_sample
        self._speech: deque[tuple[int, int]] = deque()
        self._pause_end = 0
        self._in_flight: SpeakerRequest | None = None
        self._given_up = False
        self._sent: deque[_Sent] = deque()
        for final in checkpoint.unlabelled if checkpoint else ():
            self._sent.append(_Sent(final, _labels_of(final.spans, final.speakers)))
            self._speech.append((final.start_sample, final.end_sample))

    # -- audio, and where speech is in it ----------------------------------------------------------

    def push(self, samples: Pcm16) -> None:
        """Take audio; what has not been analysed within `MAX_HELD_SAMPLES` is forgotten."""
        self._buffer.append(samples)
        self._discard_before(self._buffer.end - MAX_HELD_SAMPLES)

    def paused(self, end_sample: int) -> None:
        """The open utterance pauses here: it may be all of it."""
        self._pause_end = end_sample

    def closed(self, start_sample: int, end_sample: int) -> None:
        """An utterance is over."""
        if end_sample > self._heard_until:
            self._speech.append((start_sample, end_sample))

    @property
    def held_samples(self) -> int:
        return len(self._buffer)

    def request(self, open_sample: int | None, position: int, step_samples: int) -> SpeakerRequest | None:
        """What to listen to next, None where nothing is due. `open_sample`: where the open utterance began,
        `position`: the end of what the voice detector has seen."""
        self._forget(position, open_sample)
        if self._in_flight is not None or self._given_up:
            return None
        due = self._due(open_sample, position, step_samples)
        if due is None:
            return None
        first, until = due
        end = min(until, max(first, self._heard_until, self._buffer.start) + WINDOW_SAMPLES)
        start = max(self._buffer.start, end - WINDOW_SAMPLES)
        if not start < end <= self._buffer.end:
            return None  # it has not come yet
        window = SpeakerWindow(self._buffer.slice(start, end))
        self._in_flight = SpeakerRequest(start, end, window)
        return self._in_flight

    @property
    def is_urgent(self) -> bool:
        """A final has been sent without its speaker."""
        return any(None in sent.labels.words for sent in self._sent) and bool(self._speech)

    def _due(self, open_sample: int | None, position: int, step_samples: int) -> tuple[int, int] | None:
        """First and last sample of the speech that is worth a window now."""
        if self._speech:
            return self._speech[0][0], self._speech[-1][1]
        if open_sample is None:
            return None
        first = max(open_sample, self._heard_until)
        if self._pause_end - first >= MIN_NEW_SAMPLES:
            return first, self._pause_end
        return (first, position) if position - first >= step_samples else None

    def _forget(self, position: int, open_sample: int | None) -> None:
        """Audio is kept for a window that ends now, and for speech that waits."""
        oldest = self._buffer.end - WINDOW_SAMPLES
        waiting = self._speech[0][0] if self._speech else open_sample
        if waiting is not None:
            oldest = min(oldest, max(waiting, self._heard_until) - WINDOW_SAMPLES // 2)
        self._discard_before(min(oldest, self._buffer.end))

    def _discard_before(self, sample: int) -> None:
        self._buffer.discard_before(sample)
        while self._speech and self._speech[0][1] <= self._buffer.start:
            self._speech.popleft()

    # -- answers -------------------------------------------------------------------------------------

    def on_voices(self, voices: WindowVoices) -> list[tuple[UnlabelledFinal, Labels]]:
        """Take the answer to the last request; the finals whose labels are other than they were sent with."""
        request, self._in_flight = self._in_flight, None
        if request is None:
            return []
        self._labeller.take(request.start_sample / SAMPLE_RATE_HZ, voices)
        self._heard(request.end_sample)
        return self._revisions()

    def on_failed(self) -> None:
        """There is no answer: what was asked about stays without labels."""
        request, self._in_flight = self._in_flight, None
        if request is not None:
            self._heard(request.end_sample)

    def _heard(self, end_sample: int) -> None:
        self._heard_until = max(self._heard_until, end_sample)
        while self._speech and self._speech[0][1] <= self._heard_until:
            self._speech.popleft()

    def _revisions(self) -> list[tuple[UnlabelledFinal, Labels]]:
        revised: list[tuple[UnlabelledFinal, Labels]] = []
        for sent in self._sent:
            labels = self._labels(sent.final.spans, sent.labels.words)
            if labels.words != sent.labels.words and any(word is not None for word in labels.words):
                sent.labels = labels
                revised.append((sent.final, labels))
        settled = self._labeller.settled_until_s * SAMPLE_RATE_HZ
        while self._sent and self._sent[0].final.end_sample <= min(settled, self._heard_until):
            self._sent.popleft()
        return revised

    # -- labels --------------------------------------------------------------------------------------

    def sent(self, final: UnlabelledFinal) -> Labels:
        """A final is about to be sent: who spoke it, as far as that is known."""
        labels = self._labels(final.spans, final.speakers)
        self._sent.append(_Sent(final, labels))
        return labels

    def _labels(self, spans: Spans, before: Speakers) -> Labels:
        """What is known now, and what was `before` where the labeller has forgotten it or never knew."""
        now = (self._speaker_of(start_s, end_s) for start_s, end_s in spans)
        return _labels_of(
            spans, tuple(old if new is None else new for new, old in zip(now, before, strict=True))
        )

    def _speaker_of(self, start_s: float, end_s: float) -> int | None:
        if end_s > self._labeller.covered_until_s + 0.1:
            return None
        # What another replica heard is not asked for: this labeller begins behind it.
        return self._labeller.speaker_of(min(max(start_s, self._begins_s), end_s), end_s)

    # -- the end, and going on elsewhere ---------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """There is speech whose speakers may still come."""
        return not self._given_up and (self._in_flight is not None or bool(self._speech))

    def give_up(self) -> None:
        """Labels that are not known yet are no longer waited for."""
        self._given_up = True

    def checkpoint(self, sample: int) -> SpeakerCheckpoint:
        """What a ticket that goes on at `sample` carries: the voices, and the finals that wait for labels."""
        unheard: list[UnlabelledFinal] = []
        room = MAX_TICKET_WORDS
        for sent in reversed(self._sent):
            room -= len(sent.final.spans)
            if room < 0 or sent.final.end_sample <= sample - MAX_CONTEXT_SAMPLES:
                break
            if None in sent.labels.words:
                unheard.insert(0, replace(sent.final, speakers=sent.labels.words))
        from_sample = min([sample, *(final.start_sample for final in unheard)])
        return SpeakerCheckpoint(
            state=self._labeller.state.to_bytes(),
            from_sample=max(from_sample, sample - MAX_CONTEXT_SAMPLES, 0),
            unlabelled=tuple(unheard),
        )


def _labels_of(spans: Spans, speakers: Speakers) -> Labels:
    held: dict[int, float] = {}
    for (start_s, end_s), speaker in zip(spans, speakers, strict=True):
        if speaker is not None:
            held[speaker] = held.get(speaker, 0.0) + max(end_s - start_s, 0.01)
    return Labels(max(held, key=lambda speaker: held[speaker]) if held else None, speakers)


def _options(counts: SpeakerCounts) -> LabellerOptions:
    most = min(counts.at_most or USUAL_MOST, MAX_LIVE_SPEAKERS)
    return LabellerOptions(most=most, least=min(counts.at_least, most))


def labelled(words: tuple[Word, ...], labels: Labels) -> tuple[Word, ...]:
    """The words, each with its speaker."""
    return tuple(replace(word, speaker=speaker) for word, speaker in zip(words, labels.words, strict=True))
