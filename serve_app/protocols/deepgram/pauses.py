"""When one channel's speech was, as its events tell: endpoints, gaps between words, answers to `Finalize`.

There is no clock here: time is that of the audio. What has been received is ahead of what has been heard,
by the lag with which the last final came; a gap has been heard once it is over by that much.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from serve_app.core.events import Final
from serve_app.core.samples import SAMPLE_RATE_HZ

BEAT_S = 0.5
"""How long no frame of ours went out, when the shell asks again."""

QUIET_BEATS = 2
BUSY_BEATS = 10
"""For so many beats `Finalize` waits for the text of what was said, then it is answered without any: where
nothing was open, and where speech was heard that may yet get text."""

TEXT_PATIENCE_S = 2.0
"""Speech that has had no text for so long was a noise: the words before it were the utterance's last."""

FINALIZE_TOLERANCE_S = 0.1
"""By so much the resampler's delay may put the flush before the audio counted at the door."""

MAX_SPELLS = 64


@dataclass(slots=True)
class _Spell:
    """Speech from a sample to a sample; None: it goes on."""

    start_sample: int
    end_sample: int | None = None


@dataclass(slots=True)
class Pauses:
    """What has been heard of one channel. `last_word_end_s`: of words that no `UtteranceEnd` has followed."""

    last_word_end_s: float | None = None
    _spells: deque[_Spell] = field(default_factory=lambda: deque(maxlen=MAX_SPELLS))
    _heard_s: float = 0.0
    _lag_s: float = 0.0
    _finalize_s: float | None = None
    _beats: int = 0

    def speech_started(self, at_sample: int) -> None:
        self._spells.append(_Spell(at_sample))
        self._heard_s = max(self._heard_s, at_sample / SAMPLE_RATE_HZ)

    def speech_ended(self, at_sample: int) -> None:
        if self._spells and self._spells[-1].end_sample is None:
            self._spells[-1].end_sample = at_sample
        self._heard_s = max(self._heard_s, at_sample / SAMPLE_RATE_HZ)

    def final(self, final: Final, last_word_end_s: float, received_s: float) -> tuple[bool, bool]:
        """Take a final: whether a pause ended it (not its length), and whether it answers `Finalize`."""
        decided_s = max(final.decided_sample, final.end_sample) / SAMPLE_RATE_HZ
        self._heard_s = max(self._heard_s, decided_s)
        self._lag_s = max(0.0, received_s - decided_s)
        self.last_word_end_s = last_word_end_s
        cut = final.begins_next < final.end_sample
        paused = any(
            spell.end_sample is not None and final.start_sample <= spell.end_sample <= final.end_sample
            for spell in self._spells
        )
        while self._spells and (self._spells[0].end_sample or final.end_sample + 1) <= final.end_sample:
            self._spells.popleft()
        answers = self._finalize_s is not None and decided_s >= self._finalize_s - FINALIZE_TOLERANCE_S
        if answers:
            self._finalize_s = None
        return paused and not cut, answers

    def ended(self, total_s: float) -> None:
        """Everything has been heard."""
        self._heard_s = max(self._heard_s, total_s)

    def finalize(self, received_s: float) -> None:
        """The client wants text of everything up to here."""
        self._finalize_s = received_s
        self._beats = 0

    def unanswered_finalize(self, received_s: float, *, beat: bool = False, ended: bool = False) -> bool:
        """Whether `Finalize` must be answered without text now. `beat`: nothing went out for `BEAT_S`."""
        if self._finalize_s is None:
            return False
        self._beats += beat
        beats = max(self._beats, int((received_s - self._finalize_s) / BEAT_S))
        if not ended and beats < (BUSY_BEATS if self._text_may_come(self._finalize_s) else QUIET_BEATS):
            return False
        self._finalize_s = None
        return True

    def _text_may_come(self, finalize_s: float) -> bool:
        """Whether speech shortly before has got no text yet."""
        since_s = finalize_s - BUSY_BEATS * BEAT_S
        return any(
            spell.end_sample is None or spell.end_sample / SAMPLE_RATE_HZ >= since_s for spell in self._spells
        )

    def utterance_end(self, gap_s: float, received_s: float) -> float | None:
        """The end of the last word, once, when no speech has followed it for `gap_s`."""
        if self.last_word_end_s is None:
            return None
        silent_from_s = self.last_word_end_s
        for spell in self._spells:
            if spell.start_sample / SAMPLE_RATE_HZ - silent_from_s >= gap_s:
                break
            if spell.end_sample is None:
                return None
            silent_from_s = max(silent_from_s, spell.end_sample / SAMPLE_RATE_HZ)
        else:
            heard_s = max(self._heard_s, received_s - self._lag_s)
            if heard_s - silent_from_s < (max(gap_s, TEXT_PATIENCE_S) if self._spells else gap_s):
                return None
        last_word_end_s, self.last_word_end_s = self.last_word_end_s, None
        return last_word_end_s
