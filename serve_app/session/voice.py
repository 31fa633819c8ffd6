"""A session's audio and what the voice detector made of it: samples and marks in, utterance signals out.

Windows are laid from where the last utterance was closed; no window reaches over a mark (a flush, the
end), whose last, incomplete window is looked at filled up with silence and without keeping the
detector's state, so that a flush changes nothing where there is nothing to close.

In silence too everything begins anew from time to time, so that a session can always be resumed from a point
that is not long ago, and audio older than that can be forgotten.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

import numpy as np

from serve_app.audio.ring import SampleBuffer
from serve_app.core.events import Flushed
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16, ms_to_samples
from serve_app.vad.detector import WINDOW_SAMPLES, VadRequest, VadResult, VadState, loudness
from serve_app.vad.endpointer import Closed, Endpointer, Opened, Paused, Resumed, State
from serve_app.vad.options import EndpointingOptions

MAX_WINDOWS_PER_REQUEST = 32
"""At most a second of audio per voice request, so that one session catching up does not delay the others."""

BACKLOG_WINDOWS = 6

SILENCE_SAMPLES = 10 * SAMPLE_RATE_HZ
"""After so much without an utterance the detector starts anew, at the pre-roll of one that may begin next."""


class Mark(Enum):
    FLUSH = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Cut:
    """A closed utterance with its audio; `after_cut_sample` is set where it continues one cut for length."""

    closed: Closed
    audio: Pcm16
    onset_sample: int
    after_cut_sample: int | None


@dataclass(frozen=True, slots=True)
class EndReached:
    """Everything up to the client's end has been seen."""


@dataclass(frozen=True, slots=True)
class BegunAnew:
    """Nothing before `sample` matters any more: there was only silence."""

    sample: int


VoiceSignal: TypeAlias = Opened | Paused | Resumed | Cut | BegunAnew | Flushed | EndReached


class VoiceTrack:
    """The buffer, the marks in it, and the endpointer of the utterance in progress."""

    def __init__(self, options: EndpointingOptions, sample: int, cut_sample: int | None) -> None:
        self._options = options
        self._buffer = SampleBuffer(sample)
        self._marks: deque[tuple[int, Mark]] = deque()
        self._in_flight = False
        self._peeking = False
        self.asked_end = sample
        """Up to where the detector's last request goes."""
        self._state: VadState | None = None
        self._restart(sample, cut_sample)

    @property
    def received_samples(self) -> int:
        return self._buffer.end

    @property
    def held_samples(self) -> int:
        return len(self._buffer)

    @property
    def position(self) -> int:
        """The end of what has been seen."""
        return self._position

    @property
    def is_behind(self) -> bool:
        """A mark waits, or more than `BACKLOG_WINDOWS` windows."""
        unheard = self._buffer.end - self._position
        return bool(self._marks) or unheard >= BACKLOG_WINDOWS * WINDOW_SAMPLES

    @property
    def speaking(self) -> bool:
        """An utterance is open and does not pause."""
        return self._endpointer.state is State.SPEECH

    @property
    def open_sample(self) -> int | None:
        """Where the open utterance's audio begins, None between utterances."""
        return self._endpointer.start_sample if self._endpointer.is_open else None

    @property
    def voiced_end_sample(self) -> int:
        return self._endpointer.voiced_end_sample

    @property
    def after_cut_sample(self) -> int | None:
        return self._after_cut

    def push(self, samples: Pcm16) -> None:
        self._buffer.append(samples)

    def mark(self, mark: Mark) -> None:
        """Put a mark behind the newest sample; at most one per sample, the end wins."""
        sample = self._buffer.end
        if self._marks and self._marks[-1][0] == sample:
            if mark is Mark.END:
                self._marks[-1] = (sample, mark)
            return
        self._marks.append((sample, mark))

    def slice(self, start: int, end: int) -> Pcm16:
        return self._buffer.slice(start, end)

    def poll(self) -> tuple[list[VoiceSignal], VadRequest | None]:
        """Advance as far as it goes without a detector; then the windows it should look at next."""
        signals: list[VoiceSignal] = []
        if self._in_flight:
            return signals, None
        while True:
            limit, mark = self._marks[0] if self._marks else (self._buffer.end, None)
            num_windows = min((limit - self._position) // WINDOW_SAMPLES, MAX_WINDOWS_PER_REQUEST)
            if num_windows > 0:
                samples = self._buffer.slice(self._position, self._position + num_windows * WINDOW_SAMPLES)
                if self._options.enabled:
                    return signals, self._ask(samples)
                signals += self._take(loudness(samples))
            elif mark is None:
                return signals, None
            elif limit > self._position and self._options.enabled:
                self._peeking = True
                padded = np.zeros(WINDOW_SAMPLES, np.int16)
                padded[: limit - self._position] = self._buffer.slice(self._position, limit)
                return signals, self._ask(padded)
            else:
                signals += self._reach_mark(None)

    def on_result(self, result: VadResult) -> list[VoiceSignal]:
        """Take the detector's answer to the last request."""
        self._in_flight = False
        if self._peeking:
            self._peeking = False
            return self._reach_mark(float(result.probs[0]))
        self._state = result.state
        return self._take([float(probability) for probability in result.probs])

    def _ask(self, samples: Pcm16) -> VadRequest:
        self._in_flight = True
        self.asked_end = min(self._position + len(samples), self._buffer.end)
        return VadRequest(samples, self._state)

    def _take(self, probabilities: list[float]) -> list[VoiceSignal]:
        signals: list[VoiceSignal] = []
        for probability in probabilities:
            self._position += WINDOW_SAMPLES
            for signal in self._endpointer.step(probability):
                if isinstance(signal, Closed):
                    # The windows after it were seen with a state that ends here: they are asked for again.
                    return [*signals, self._close(signal)]
                signals.append(signal)
            if self._has_been_silent:
                return [*signals, self._begin_anew()]
        self._forget_silence()
        return signals

    def _reach_mark(self, last_probability: float | None) -> list[VoiceSignal]:
        sample, mark = self._marks.popleft()
        closed = self._endpointer.close_now(sample, last_probability)
        signals: list[VoiceSignal] = [] if closed is None else [self._close(closed)]
        signals.append(EndReached() if mark is Mark.END else Flushed(sample))
        return signals

    def _close(self, closed: Closed) -> Cut:
        audio = self._buffer.slice(closed.start_sample, closed.end_sample)
        cut = Cut(closed, audio, self._endpointer.onset_sample, self._after_cut)
        self._restart(closed.resume_sample, closed.cut_sample)
        return cut

    @property
    def _has_been_silent(self) -> bool:
        silent = self._position - self._origin
        return self._endpointer.state is State.IDLE and silent >= SILENCE_SAMPLES

    def _begin_anew(self) -> BegunAnew:
        sample = self._position - ms_to_samples(self._options.pre_roll_ms)
        self._restart(sample, None)
        return BegunAnew(sample)

    def _restart(self, sample: int, cut_sample: int | None) -> None:
        """Begin anew at `sample`, exactly as after a resume."""
        self._position = self._origin = sample
        self._state = None
        self._after_cut = cut_sample
        continuing = cut_sample is not None
        self._endpointer = Endpointer(self._options, origin_sample=sample, continuing=continuing)
        self._buffer.discard_before(sample)

    def _forget_silence(self) -> None:
        """Give up the audio that no utterance can reach back to."""
        if self._endpointer.state is State.IDLE:
            self._buffer.discard_before(self._position - ms_to_samples(self._options.pre_roll_ms))
