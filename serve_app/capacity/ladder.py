"""What gives way under load, in which order: a ladder that is climbed at once and left rung by rung.

    0 normal
    1 interims_slower      interims come less often
    2 interims_shorter     and look at shorter windows
    3 no_speculation       no final is begun before its utterance has ended
    4 no_interims          interims pause
    5 smaller_finals       finals are decoded by the interim model, where it knows the language
    6 full                 new sessions are refused; those that were admitted go on

The measure is how long a final that came now would wait for a worker, against the wait at which the ladder
ends. A rung is left when the load has been under half of what it was entered at for `HOLD_S`; without that
the service would swing between two rungs, and clients between two states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

HOLD_S = 2.0
SMOOTHING = 0.2
WAIT_HOLDS_S = 1.0
WAIT_TIME_S = 3.0
"""After a second without a final a wait that was measured is forgotten: where none comes, none waits."""
LOAD_TIME_S = 1.0
"""A burst of finals that is gone within this time does not climb the ladder."""
FREE_WAIT_MS = 40.0
FULL_WAIT_MS = 240.0
LEAST_SHARE = 0.1
"""Up to the first wait of finals interims keep all of their share, from the second on a tenth of it."""
LEAST_WAIT_SHARE = 0.5
"""Of `max_total_ms`: so much may be waited where a decode alone takes most of it."""


class Rung(IntEnum):
    """How far up; the names are what logs, status messages and pages say."""

    NORMAL = 0
    INTERIMS_SLOWER = 1
    INTERIMS_SHORTER = 2
    NO_SPECULATION = 3
    NO_INTERIMS = 4
    SMALLER_FINALS = 5
    FULL = 6

    @property
    def level(self) -> str:
        """`normal`, `high` or `critical`."""
        if self is Rung.NORMAL:
            return "normal"
        return "critical" if self >= Rung.NO_INTERIMS else "high"


ENTERED_AT = {
    Rung.INTERIMS_SLOWER: 0.1,
    Rung.INTERIMS_SHORTER: 0.25,
    Rung.NO_SPECULATION: 0.4,
    Rung.NO_INTERIMS: 0.6,
    Rung.SMALLER_FINALS: 0.8,
    Rung.FULL: 1.0,
}
"""Shares of the wait at which the ladder ends."""
LEFT_AT = 0.5
"""Share of the load at which a rung was entered."""

_RELIEF = {Rung.NORMAL: 1.0, Rung.INTERIMS_SLOWER: 0.75, Rung.INTERIMS_SHORTER: 0.5}


@dataclass(frozen=True, slots=True)
class LadderLimits:
    """`max_total_ms`: how long a final may take, its wait and its decode. The watermarks count finals in the
    recogniser's hands, and interims there or long overdue: from `high` on the load is high, from `critical`
    on critical, whatever was measured. Interims that wait make interims cheaper and end speculation, and
    pause nothing: paused, they would wait for ever."""

    num_workers: int = 2
    max_total_ms: float = 500.0
    final_high: int = 6
    final_critical: int = 12
    interim_high: int = 20
    interim_critical: int = 40

    def __post_init__(self) -> None:
        if not (
            0 < self.final_high <= self.final_critical and 0 < self.interim_high <= self.interim_critical
        ):
            raise ValueError("a critical watermark must not be below the high one")


class Ladder:
    """The state of one ingress replica's load. Times are seconds of any one clock."""

    def __init__(self, limits: LadderLimits, now_s: float) -> None:
        self._limits = limits
        self.rung = Rung.NORMAL
        self.level = Rung.NORMAL.level
        self._eased_s = now_s
        self._wait_ms = 0.0
        self._forgotten_s = now_s
        self._decode_ms = 0.0
        self._cost = 0.0
        self._load = 0.0
        self._stepped_s = now_s
        self.estimated_ms = 0.0
        """How long a final that came now would take: its wait and its decode."""

    @property
    def relief(self) -> float:
        """The part of their share that interims keep, 1 down to `LEAST_SHARE`."""
        by_wait = 1.0 - (self._wait_ms - FREE_WAIT_MS) / (FULL_WAIT_MS - FREE_WAIT_MS)
        return max(LEAST_SHARE, min(1.0, by_wait, _RELIEF.get(self.rung, LEAST_SHARE)))

    def final_answered(self, wait_ms: float, inference_ms: float, audio_s: float, now_s: float) -> None:
        """A final came back: it had waited so long for a worker, and took so long (its share of a batch)."""
        self._wait_ms = _smooth(self._recent_wait_ms(now_s), wait_ms)
        self._forgotten_s = now_s
        self._decode_ms = _smooth(self._decode_ms or inference_ms, inference_ms)
        if audio_s > 0:
            cost = inference_ms / 1000 / audio_s
            self._cost = _smooth(self._cost or cost, cost)

    def step(
        self,
        now_s: float,
        *,
        num_finals: int,
        backlog_s: float,
        oldest_s: float = 0.0,
        num_interims: int = 0,
    ) -> Rung:
        """Take stock. `backlog_s`: of audio, in the `num_finals` that are out; `oldest_s`: how long the one
        that was sent first has been away. `num_interims`: out, or long overdue."""
        limits = self._limits
        wait_ms = self._wait_ms = self._recent_wait_ms(now_s)
        if num_finals > limits.num_workers:
            queued_ms = 1000 * backlog_s * self._cost / limits.num_workers
            wait_ms = max(wait_ms, queued_ms, 1000 * oldest_s - 2 * self._decode_ms)
        self.estimated_ms = wait_ms + self._decode_ms
        bearable_ms = max(limits.max_total_ms - self._decode_ms, LEAST_WAIT_SHARE * limits.max_total_ms)
        kept = math.exp(-max(0.0, now_s - self._stepped_s) / LOAD_TIME_S)
        self._load, self._stepped_s = kept * self._load + (1 - kept) * wait_ms / bearable_ms, now_s
        self._climb(self._load, self._least_rung(num_finals, num_interims), now_s)
        critical = num_finals >= limits.final_critical or num_interims >= limits.interim_critical
        self.level = "critical" if critical else self.rung.level
        return self.rung

    def _climb(self, load: float, least: Rung, now_s: float) -> None:
        wanted = max((rung for rung, share in ENTERED_AT.items() if load >= share), default=Rung.NORMAL)
        wanted = max(wanted, least)
        if wanted > self.rung:
            self.rung, self._eased_s = wanted, now_s
            return
        while self.rung > max(Rung.NORMAL, least) and load <= LEFT_AT * ENTERED_AT[self.rung]:
            if now_s - self._eased_s < HOLD_S:
                return
            self.rung, self._eased_s = Rung(self.rung - 1), self._eased_s + HOLD_S
        self._eased_s = now_s

    def _least_rung(self, num_finals: int, num_interims: int) -> Rung:
        """What the watermarks ask for."""
        limits = self._limits
        if num_finals >= limits.final_critical:
            return Rung.NO_INTERIMS
        if num_finals >= limits.final_high or num_interims >= limits.interim_critical:
            return Rung.NO_SPECULATION
        return Rung.INTERIMS_SLOWER if num_interims >= limits.interim_high else Rung.NORMAL

    def _recent_wait_ms(self, now_s: float) -> float:
        """The waits that were measured, forgotten from `WAIT_HOLDS_S` after the last one on."""
        silent_s = now_s - self._forgotten_s - WAIT_HOLDS_S
        if silent_s <= 0:
            return self._wait_ms
        self._forgotten_s += silent_s
        return self._wait_ms * math.exp(-silent_s / WAIT_TIME_S)


def _smooth(mean: float, value: float) -> float:
    return mean + SMOOTHING * (value - mean)
