"""How many replicas a recogniser gets: Serve's side of `serve_app.capacity.policy`.

Serve calls the policy of each deployment about ten times a second in its controller and keeps the state that
it returns. In the config file, whole or with constants of one's own:

    policy: {policy_function: "deployments.autoscaling:by_waiting_audio"}
    policy:
      policy_function: deployments.autoscaling:WaitingAudioPolicy
      policy_kwargs: {startup_s: 60, quiet_s: 300}

The policy keeps still by itself, so Serve's own delays should be 0 (`upscale_delay_s`, `downscale_delay_s`);
longer ones only come on top. `look_back_period_s: 5` lets replicas measure once a second.
"""

from __future__ import annotations

import math
from typing import Any

import structlog

from serve_app.capacity.policy import (
    Decision,
    Demand,
    PolicyState,
    Reason,
    ReplicaFigures,
    ScalingRules,
    decide,
)

MAX_AGE_S = 15.0
"""Older figures are missing ones: the replica hangs, or has lost its way to the controller."""
WAITING_WINDOW_S = 5.0
"""What waits jumps with every endpoint: its mean over this time is taken."""
SAID_REASON = "said_reason"
_STUCK = (Reason.BOUNDS, Reason.FIGURES_MISSING)

log = structlog.get_logger("sotto.autoscaling")


class WaitingAudioPolicy:
    """Serve's `policy_function` as a class; `constants` are those of `ScalingRules`.

    Raises `TypeError` for unknown constants, `ValueError` for impossible ones.
    """

    def __init__(self, **constants: float) -> None:
        self._rules = ScalingRules(**constants)

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        return _decide(context, self._rules)


def by_waiting_audio(context: Any) -> tuple[int, dict[str, Any]]:
    """Serve's `policy_function` with the usual constants."""
    return _decide(context, ScalingRules())


def _decide(context: Any, rules: ScalingRules) -> tuple[int, dict[str, Any]]:
    kept = context.policy_state or {}
    demand = demand_of(context)
    decision = decide(demand, PolicyState.from_dict(kept), rules)
    newly_stuck = decision.reason in _STUCK and decision.reason != kept.get(SAID_REASON)
    if decision.changes or newly_stuck:
        _say(context, demand, decision)
    return decision.num_replicas, {**decision.state.to_dict(), SAID_REASON: decision.reason.value}


def demand_of(context: Any) -> Demand:
    """What Serve knows of a deployment (`ray.serve.config.AutoscalingContext`), without late and senseless
    figures."""
    series: dict[str, dict[Any, Any]] = context.raw_metrics or {}
    now_s = float(context.current_time)
    return Demand(
        now_s=now_s,
        num_running=context.current_num_replicas,
        num_wanted=context.target_num_replicas,
        lowest=context.capacity_adjusted_min_replicas,
        highest=context.capacity_adjusted_max_replicas,
        replicas=tuple(
            figures
            for replica in context.running_replicas
            if (figures := _figures(series, replica, now_s)) is not None
        ),
    )


def _figures(series: dict[str, dict[Any, Any]], replica: Any, now_s: float) -> ReplicaFigures | None:
    """One replica's, or None where it has said nothing of late."""
    waiting = _recent(series, "waiting_audio_s", replica, now_s)
    if not waiting:
        return None
    newest_s = waiting[-1][0]
    window = [value for at_s, value in waiting if newest_s - at_s <= WAITING_WINDOW_S]

    def newest(name: str) -> float:
        found = _recent(series, name, replica, now_s)
        return found[-1][1] if found else 0.0

    return ReplicaFigures(
        waiting_audio_s=sum(window) / len(window),
        waiting_recording_audio_s=newest("waiting_recording_audio_s"),
        arriving=newest("arriving_audio_s_per_s"),
        capacity=newest("capacity_audio_s_per_s"),
    )


def _recent(
    series: dict[str, dict[Any, Any]], name: str, replica: Any, now_s: float
) -> list[tuple[float, float]]:
    """Times and values, oldest first: numbers of at least 0 that are not too old."""
    points = series.get(name, {}).get(replica) or ()
    good = [
        (point.timestamp, float(point.value))
        for point in points
        if isinstance(point.value, int | float)
        and math.isfinite(point.value)
        and point.value >= 0
        and now_s - point.timestamp <= MAX_AGE_S
    ]
    return sorted(good)


def _say(context: Any, demand: Demand, decision: Decision) -> None:
    log.info(
        "autoscaling decision",
        deployment=context.deployment_name,
        reason=decision.reason.value,
        replicas_from=demand.num_wanted,
        replicas_to=decision.num_replicas,
        running=demand.num_running,
        reporting=len(demand.replicas),
        arriving_audio_s_per_s=round(decision.arriving, 3),
        forecast_audio_s_per_s=round(decision.forecast, 3),
        waiting_audio_s=round(decision.waiting_audio_s, 3),
        capacity_per_replica=round(decision.capacity_per_replica, 3),
        num_up=decision.state.num_up,
        num_down=decision.state.num_down,
        num_flaps=decision.state.num_flaps,
    )
