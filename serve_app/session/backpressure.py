"""How much interim work may be on its way: finals always go first, interims take what is left.

`InterimGate` limits interims three ways. They wait while finals queue. At most `limit` are in flight,
a limit that follows how long they wait at the recogniser (additive increase, multiplicative decrease:
Chiu and Jain 1989), so that one ingress among several takes its share of replicas it cannot see. And
where interims share cores with everything else, a token bucket holds them to a share of the workers'
time, so that the interval between a session's interims grows with the number of speakers instead of
the latency of finals; and the higher the load (`capacity.ladder`), the smaller that share, and the shorter
the windows, until they pause.
"""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.capacity.ladder import Rung

MAX_IN_FLIGHT = 1024
BURST_S = 0.5
GOOD_WAIT_MS = 30.0
BAD_WAIT_MS = 150.0
LEAST_WINDOW = 0.4


@dataclass(frozen=True, slots=True)
class InterimBudget:
    """`num_workers` decode in parallel on one replica; interims may use `share` of their time, or
    everything that is free where `share` is None (they have workers of their own)."""

    num_workers: int
    max_in_flight: int = 1
    share: float | None = None


@dataclass(frozen=True, slots=True)
class InterimLoad:
    """How much interims have to give way: their interval grows by `slowdown`, their window shrinks to
    `window_share`, and while finals queue they are `paused`. `level`: normal, high or critical, of which
    `rung` is the finer name. `estimated_ms`: what a final that came now would take."""

    level: str = "normal"
    slowdown: float = 1.0
    window_share: float = 1.0
    paused: bool = False
    rung: Rung = Rung.NORMAL
    estimated_ms: float = 0.0


class InterimGate:
    """Says whether one more interim may be sent; fed with what came back, and with how much of their share
    interims keep (`relief`, at most 1)."""

    def __init__(self, budget: InterimBudget, now_s: float) -> None:
        self._budget = budget
        self._limit = float(budget.max_in_flight)
        self._in_flight = 0
        self._tokens_s = BURST_S
        self._updated_s = now_s
        self.relief = 1.0
        self.paused = False

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def may_send(self, now_s: float, num_finals_in_flight: int) -> bool:
        self._refill(now_s)
        if self.paused or num_finals_in_flight > self._budget.num_workers:
            return False
        if self._budget.share is not None and self._tokens_s <= 0:
            return False
        return self._in_flight < int(self._limit)

    def sent(self) -> None:
        self._in_flight += 1

    def answered(self, queue_wait_ms: float, inference_ms: float) -> None:
        """One interim came back; `inference_ms` is its share of what its batch took."""
        full = self._in_flight >= int(self._limit)
        self._in_flight -= 1
        self._tokens_s -= inference_ms / 1000
        if queue_wait_ms > BAD_WAIT_MS:
            self._limit = max(1.0, self._budget.max_in_flight, self._limit * 0.7)
        elif queue_wait_ms < GOOD_WAIT_MS and full and self._budget.share is None:
            self._limit = min(MAX_IN_FLIGHT, self._limit + 1.0)

    @property
    def window_share(self) -> float:
        """How much of the longest window an interim may have: all of it down to `LEAST_WINDOW`, which is
        reached when half of the interims' share is gone."""
        pressed = min(1.0, 2.0 * (1.0 - self.relief))
        return 1.0 - pressed * (1.0 - LEAST_WINDOW)

    def _refill(self, now_s: float) -> None:
        if self._budget.share is not None:
            share = self._budget.share * self.relief
            earned = (now_s - self._updated_s) * share * self._budget.num_workers
            self._tokens_s = min(BURST_S, self._tokens_s + earned)
        self._updated_s = now_s
