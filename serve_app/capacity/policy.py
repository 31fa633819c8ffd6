"""How many replicas a recogniser needs: the audio that waits and comes, against what replicas decode.

Pure: no clock, no log; the state goes in and comes out, so that the caller may keep it anywhere.

    needed = (arriving audio per second, as far ahead as a replica takes to start, + waiting audio / drain_s)
             / (what one replica decodes per second * up_share)

Up: at once, to what is needed, at most twice as many at a time; one more where what waits would take all
replicas longer than `patience_s` and no replica is starting. Down: one replica, once all of the load would
fit into one fewer at `down_share` for `quiet_s` without a break. Between the two shares nothing happens,
which keeps a constant load from being answered up and down in turn (hysteresis). Replicas whose figures are
missing are taken for idle, but nothing is taken away while any is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum

from serve_app.capacity.meter import ARRIVAL_TIME_S

IDLE_AUDIO = 1e-3
"""Audio seconds (waiting, or per second) below which there is nothing to do."""


class Reason(StrEnum):
    """Why the number is what it is."""

    STEADY = "steady"
    LOAD = "load"
    FORECAST = "forecast"
    BACKLOG = "backlog"
    RECORDINGS = "recordings"
    QUIET = "quiet"
    FIGURES_MISSING = "figures missing"
    BOUNDS = "bounds"


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """The policy's constants. Shares are of a replica's measured capacity; times in seconds.

    `startup_s`: from the decision to a replica that decodes. `unknown_capacity`: of a replica before the
    first is measured, audio seconds per second. `patience_s`: how long finals may wait on average; one in
    twenty waits some three times as long. `trend_s`: how far back the trend looks; a forecast is at most
    `max_forecast` times what comes now, and a rise below `trend_floor` of it is noise.
    """

    up_share: float = 0.75
    down_share: float = 0.5
    quiet_s: float = 120.0
    startup_s: float = 20.0
    drain_s: float = 10.0
    patience_s: float = 0.2
    recordings_drain_s: float = 60.0
    trend_s: float = 20.0
    trend_floor: float = 0.15
    max_forecast: float = 2.0
    max_step: float = 2.0
    unknown_capacity: float = 20.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise ValueError(f"{field.name} must be a positive number, got {value!r}")
        if not self.down_share < self.up_share <= 1:
            raise ValueError(f"0 < down_share < up_share <= 1, got {self.down_share} and {self.up_share}")
        if self.max_forecast < 1 or self.max_step <= 1:
            raise ValueError("max_forecast must be at least 1, max_step more than 1")


@dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """What one replica reported: seconds of audio waiting (of live sessions; of recordings), live audio that
    arrives per second, and what it can decode per second (0: nothing measured yet)."""

    waiting_audio_s: float = 0.0
    waiting_recording_audio_s: float = 0.0
    arriving: float = 0.0
    capacity: float = 0.0


@dataclass(frozen=True, slots=True)
class Demand:
    """A deployment at one moment. `replicas`: those that report; `num_running` decode, `num_wanted` is what
    was decided last, so that the difference is starting or stopping."""

    now_s: float
    num_running: int
    num_wanted: int
    lowest: int
    highest: int
    replicas: Sequence[ReplicaFigures] = ()


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What the policy remembers of a deployment; counts since its beginning.

    `usual`: arriving audio, smoothed. `quiet_since_s`: since when one fewer than `num_wanted` would do.
    `num_decided`: a decision that has not been carried out yet. A flap is a way up within `quiet_s` of a way
    down.
    """

    updated_s: float | None = None
    usual: float = 0.0
    quiet_since_s: float | None = None
    last_down_s: float | None = None
    num_wanted: int | None = None
    num_decided: int | None = None
    num_up: int = 0
    num_down: int = 0
    num_flaps: int = 0

    @classmethod
    def from_dict(cls, kept: Mapping[str, object]) -> PolicyState:
        """The fields that are there and are numbers; the others start anew."""
        known = {}
        for field in fields(cls):
            value = kept.get(field.name)
            if isinstance(value, int | float) and math.isfinite(value):
                known[field.name] = int(value) if field.name.startswith("num_") else float(value)
        return cls(**known)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """The number of replicas, why, and what it was made of (audio seconds per second, and waiting)."""

    num_replicas: int
    reason: Reason
    state: PolicyState
    arriving: float
    forecast: float
    waiting_audio_s: float
    capacity_per_replica: float
    changes: int = 0
    """Replicas more (or, negative, fewer) than were wanted before; 0 where the same was decided already and
    is only not carried out yet."""


@dataclass(frozen=True, slots=True)
class _Load:
    """The replicas' figures, added up; `capacity` is one replica's."""

    arriving: float
    forecast: float
    waiting_s: float
    recordings_s: float
    capacity: float
    complete: bool


def decide(demand: Demand, state: PolicyState, rules: ScalingRules | None = None) -> Decision:
    """The number of replicas for this demand, within its bounds, and the state to ask with next time."""
    rules = rules or ScalingRules()
    lowest, highest = max(0, demand.lowest), max(0, demand.lowest, demand.highest)
    if state.num_wanted != demand.num_wanted:
        state = replace(state, quiet_since_s=None, num_wanted=demand.num_wanted)
    state, load = _take(demand, state, rules)
    wanted, reason = _wanted_up(demand, load, rules)
    if reason is Reason.STEADY:
        state, wanted, reason = _wanted_down(demand, load, state, rules)
    else:
        state = replace(state, quiet_since_s=None)
    bounded = max(lowest, min(highest, wanted))
    if bounded != wanted:
        reason = Reason.BOUNDS
    state, changes = _counted(state, bounded, demand, rules)
    return Decision(
        bounded,
        reason,
        state,
        load.arriving,
        load.forecast,
        load.waiting_s + load.recordings_s,
        load.capacity,
        changes,
    )


def _take(demand: Demand, state: PolicyState, rules: ScalingRules) -> tuple[PolicyState, _Load]:
    """Add the figures up, and look ahead along the trend."""
    arriving = sum(figures.arriving for figures in demand.replicas)
    known = sorted(figures.capacity for figures in demand.replicas if figures.capacity > 0)
    capacity = known[(len(known) - 1) // 2] if known else rules.unknown_capacity
    complete = 0 < demand.num_running <= len(demand.replicas)
    usual, updated_s = state.usual, demand.now_s
    if state.updated_s is None:
        usual = arriving
    else:
        elapsed_s = max(0.0, demand.now_s - state.updated_s)
        usual += (arriving - usual) * (1.0 - math.exp(-elapsed_s / rules.trend_s))
        updated_s = max(demand.now_s, state.updated_s)
    rise = arriving - usual
    # On a steady rise a mean over `trend_s` is behind by just that time; what replicas report is a mean too.
    ahead_s = rules.startup_s + ARRIVAL_TIME_S
    ahead = rise * ahead_s / rules.trend_s if rise > rules.trend_floor * usual else 0.0
    load = _Load(
        arriving=arriving,
        forecast=min(arriving + ahead, arriving * rules.max_forecast),
        waiting_s=sum(figures.waiting_audio_s for figures in demand.replicas),
        recordings_s=sum(figures.waiting_recording_audio_s for figures in demand.replicas),
        capacity=capacity,
        complete=complete,
    )
    return replace(state, usual=usual, updated_s=updated_s), load


def _wanted_up(demand: Demand, load: _Load, rules: ScalingRules) -> tuple[int, Reason]:
    """More replicas than now and why; `STEADY` where these are enough."""
    now = demand.num_wanted
    usable = load.capacity * rules.up_share
    recordings = load.recordings_s / rules.recordings_drain_s
    backlog = load.waiting_s / rules.drain_s
    ways = (
        (Reason.LOAD, load.arriving),
        (Reason.FORECAST, load.forecast),
        (Reason.BACKLOG, load.forecast + backlog),
        (Reason.RECORDINGS, load.forecast + backlog + recordings),
    )
    for reason, audio in ways:
        needed = _ceil(audio / usable)
        if needed > now:
            # All that is needed, for every reason, but no more than `max_step` times as many.
            needed = _ceil(ways[-1][1] / usable)
            return min(needed, max(now + 1, _ceil(now * rules.max_step))), reason
    running = max(1, demand.num_running) * load.capacity
    if load.waiting_s / running > rules.patience_s and 0 < now <= demand.num_running:
        return now + 1, Reason.BACKLOG
    return now, Reason.STEADY


def _wanted_down(
    demand: Demand, load: _Load, state: PolicyState, rules: ScalingRules
) -> tuple[PolicyState, int, Reason]:
    """One replica fewer once that would have done for `quiet_s`."""
    now = demand.num_wanted
    if not load.complete and now > demand.lowest:
        return replace(state, quiet_since_s=None), now, Reason.FIGURES_MISSING
    fewer = (now - 1) * load.capacity * rules.down_share
    coming = max(load.forecast, state.usual) + load.waiting_s / rules.drain_s
    coming += load.recordings_s / rules.recordings_drain_s
    waits_s = load.waiting_s / (max(1, now - 1) * load.capacity)
    would_do = coming <= fewer + IDLE_AUDIO and waits_s <= rules.patience_s / 2
    would_do = would_do and now > demand.lowest and demand.num_running == now
    if not would_do:
        return replace(state, quiet_since_s=None), now, Reason.STEADY
    since = demand.now_s if state.quiet_since_s is None else min(state.quiet_since_s, demand.now_s)
    state = replace(state, quiet_since_s=since)
    # Said again until it is carried out: Serve's own delays may come on top.
    long_enough = demand.now_s - since >= rules.quiet_s
    return (state, now - 1, Reason.QUIET) if long_enough else (state, now, Reason.STEADY)


def _counted(
    state: PolicyState, decided: int, demand: Demand, rules: ScalingRules
) -> tuple[PolicyState, int]:
    """Count a decision when it is new."""
    changes = decided - demand.num_wanted
    if changes == 0 or decided == state.num_decided:
        return replace(state, num_decided=decided if changes else None), 0
    state = replace(state, num_decided=decided)
    if changes < 0:
        return replace(state, num_down=state.num_down + 1, last_down_s=demand.now_s), changes
    flaps = state.last_down_s is not None and demand.now_s - state.last_down_s <= rules.quiet_s
    return replace(state, num_up=state.num_up + 1, num_flaps=state.num_flaps + flaps), changes


def _ceil(value: float) -> int:
    """Upwards, but not for the last digit of a float."""
    return math.ceil(value - 1e-9)
