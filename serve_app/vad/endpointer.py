"""Where an utterance begins and ends: a state table over speech probabilities, one window at a time.

    state      window voiced            window silent                      enough silence
    IDLE       -> OPENING               IDLE
    OPENING    -> SPEECH when           OPENING                            -> IDLE (too short: dropped)
               min_speech is reached
    SPEECH     SPEECH                   -> PAUSE once the pad is complete  -> closed (`Closed`)
    PAUSE      -> SPEECH (`Resumed`)    PAUSE                              -> closed (`Closed`)

A window opens an utterance at or over `threshold` and keeps it alive at or over `threshold - 0.15`
(the hysteresis of Silero's own iterator). `PAUSE` says: if nothing more is said, the utterance is
complete as it stands, so its text may be computed while the rest of the endpoint silence passes.

An endpointer lives for one utterance: its user makes a new one, and restarts the voice detector,
at `Closed.resume_sample`. That is what makes a session resumable at every final with no state of these
two. Times are absolute sample indices.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from serve_app.core.samples import SAMPLE_RATE_HZ, ms_to_samples
from serve_app.vad.detector import WINDOW_SAMPLES
from serve_app.vad.options import EndpointingOptions

HYSTERESIS = 0.15
MAX_DECODE_SAMPLES = 30 * SAMPLE_RATE_HZ
"""Whisper's window: no utterance may be longer."""
CUT_SEARCH_SHARE = 0.25
"""How much of the end of a too long utterance is searched for the quietest window to cut at."""


class State(Enum):
    IDLE = auto()
    OPENING = auto()
    SPEECH = auto()
    PAUSE = auto()


@dataclass(frozen=True, slots=True)
class Opened:
    """Speech is confirmed; it began with the window at `onset_sample`, its audio at `start_sample`."""

    onset_sample: int
    start_sample: int


@dataclass(frozen=True, slots=True)
class Paused:
    """Silence as long as the pad: the utterance ends at `end_sample` unless speech resumes."""

    end_sample: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """Speech went on after a pause."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The utterance is over.

    Its audio is `[start_sample, end_sample)`; `voiced_end_sample` is the end of its last voiced window,
    `decided_sample` the end of the window that decided. `cut`: it was too long and goes on in the next
    utterance, whose audio begins at `resume_sample`, with `cut_sample` between the two.
    """

    start_sample: int
    end_sample: int
    voiced_end_sample: int
    decided_sample: int
    resume_sample: int
    cut_sample: int | None = None

    @property
    def cut(self) -> bool:
        return self.cut_sample is not None


Signal: TypeAlias = Opened | Paused | Resumed | Closed


class Endpointer:
    """The state table for one utterance, fed with the windows from `origin_sample` on.

    `continuing`: the utterance goes on from a cut, so it is open from its first sample.
    """

    def __init__(
        self, options: EndpointingOptions, *, origin_sample: int = 0, continuing: bool = False
    ) -> None:
        self._options = options
        self._origin = origin_sample
        self._position = origin_sample
        self._min_speech = ms_to_samples(options.min_speech_ms)
        self._pad = ms_to_samples(options.speech_pad_ms)
        self._min_silence = max(ms_to_samples(options.min_silence_ms), WINDOW_SAMPLES)
        longest = min(ms_to_samples(options.max_utterance_ms), MAX_DECODE_SAMPLES - WINDOW_SAMPLES)
        self._max_length = max(longest, 2 * WINDOW_SAMPLES)
        self._overlap = ms_to_samples(options.overlap_ms)
        self._voiced = 0
        self._loudness: list[float] = []
        self.state = State.IDLE
        self.start_sample = origin_sample
        self.onset_sample = origin_sample
        self.voiced_end_sample = origin_sample
        if continuing or not options.enabled:
            self.state = State.SPEECH

    @property
    def position(self) -> int:
        """The end of the last window seen."""
        return self._position

    @property
    def is_open(self) -> bool:
        """An utterance is confirmed and not closed."""
        return self.state in (State.SPEECH, State.PAUSE)

    def step(self, probability: float) -> tuple[Signal, ...]:
        """Take the next window's speech probability; with endpointing off, any measure of loudness."""
        begin = self._position
        self._position += WINDOW_SAMPLES
        if not self._options.enabled:
            self.voiced_end_sample = self._position
            self._loudness.append(probability)
            return self._cut_if_too_long()
        voiced = probability >= self._options.threshold - (HYSTERESIS if self.state is not State.IDLE else 0)
        if self.state is State.IDLE:
            return self._open(begin, probability) if voiced else ()
        self._loudness.append(probability)
        signals = self._voiced_window() if voiced else self._silent_window()
        if signals and isinstance(signals[-1], Closed):
            return signals
        return signals + (self._cut_if_too_long() if self.is_open else ())

    def close_now(self, at_sample: int, last_probability: float | None = None) -> Closed | None:
        """Close at `at_sample` on request; None where nothing was said (an opening is enough).

        `last_probability` is that of the last, incomplete window, which no `step` has seen.
        """
        heard = last_probability is not None and last_probability >= self._options.threshold
        if self.state is State.IDLE:
            if not heard:
                return None
            self.start_sample = max(self._origin, self._position - ms_to_samples(self._options.pre_roll_ms))
            self.voiced_end_sample = at_sample
        if heard:
            self.voiced_end_sample = at_sample
        if at_sample <= self.start_sample:
            return None
        end = min(at_sample, self.voiced_end_sample + self._pad) if self._options.enabled else at_sample
        return Closed(self.start_sample, end, min(self.voiced_end_sample, at_sample), at_sample, at_sample)

    def _open(self, begin: int, probability: float) -> tuple[Signal, ...]:
        self.onset_sample = begin
        self.start_sample = max(self._origin, begin - ms_to_samples(self._options.pre_roll_ms))
        self.state = State.OPENING
        self._voiced = 0
        self._loudness = [probability]
        return self._voiced_window()

    def _voiced_window(self) -> tuple[Signal, ...]:
        self.voiced_end_sample = self._position
        self._voiced += WINDOW_SAMPLES
        if self.state is State.OPENING and self._voiced >= self._min_speech:
            self.state = State.SPEECH
            return (Opened(self.onset_sample, self.start_sample),)
        if self.state is State.PAUSE:
            self.state = State.SPEECH
            return (Resumed(),)
        return ()

    def _silent_window(self) -> tuple[Signal, ...]:
        silence = self._position - self.voiced_end_sample
        if silence >= self._min_silence:
            if self.state is State.OPENING:
                self.state = State.IDLE
                return ()
            end = min(self.voiced_end_sample + self._pad, self._position)
            return (Closed(self.start_sample, end, self.voiced_end_sample, self._position, end),)
        if self.state is State.SPEECH and silence >= self._pad:
            self.state = State.PAUSE
            return (Paused(self.voiced_end_sample + self._pad),)
        return ()

    def _cut_if_too_long(self) -> tuple[Signal, ...]:
        """Close at the quietest window near the end, so that no word is cut in two."""
        if self._position - self.start_sample < self._max_length:
            return ()
        half_overlap = self._overlap // 2
        usable = max(1, len(self._loudness) - half_overlap // WINDOW_SAMPLES)
        first = int(usable * (1 - CUT_SEARCH_SHARE))
        quietest = min(range(first, usable), key=self._loudness.__getitem__)
        middle = self._position - (len(self._loudness) - quietest) * WINDOW_SAMPLES + WINDOW_SAMPLES // 2
        end = min(middle + half_overlap, self._position)
        resume = max(self.start_sample + WINDOW_SAMPLES, middle - half_overlap)
        return (
            Closed(self.start_sample, end, min(self.voiced_end_sample, end), self._position, resume, middle),
        )
