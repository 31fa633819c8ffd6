"""Serve's side of the scaling policy: late and senseless figures, state, and one log line a decision."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from structlog.testing import capture_logs

from deployments.autoscaling import MAX_AGE_S, WaitingAudioPolicy, by_waiting_audio, demand_of

NOW_S = 1_000.0


class Point:
    """As `ray.serve._private.common.TimeStampedValue`."""

    def __init__(self, timestamp: float, value: Any) -> None:
        self.timestamp = timestamp
        self.value = value


def series(**newest: float) -> dict[str, list[Point]]:
    return {name: [Point(NOW_S - 1, value)] for name, value in newest.items()}


def busy(arriving: float = 10.0) -> dict[str, list[Point]]:
    return series(
        waiting_audio_s=0.0,
        waiting_recording_audio_s=0.0,
        arriving_audio_s_per_s=arriving,
        capacity_audio_s_per_s=40.0,
    )


def context(
    replicas: dict[str, dict[str, list[Point]]],
    *,
    state: dict[str, Any] | None = None,
    wanted: int | None = None,
    now_s: float = NOW_S,
    highest: int = 8,
) -> AutoscalingContext:
    raw: dict[str, dict[str, list[Point]]] = {}
    for replica, reported in replicas.items():
        for name, points in reported.items():
            raw.setdefault(name, {})[replica] = points
    return AutoscalingContext(
        deployment_id=None,
        deployment_name="FinalAsr",
        app_name="sotto",
        current_num_replicas=len(replicas),
        target_num_replicas=len(replicas) if wanted is None else wanted,
        running_replicas=list(replicas),
        total_num_requests=0.0,
        total_queued_requests=0.0,
        aggregated_metrics=dict,
        raw_metrics=lambda: raw,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=highest,
        policy_state=state or {},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now_s,
        config=AutoscalingConfig(),
    )


def test_figures_reach_the_policy() -> None:
    demand = demand_of(context({"a": busy(30.0), "b": busy(5.0)}))
    assert [replica.arriving for replica in demand.replicas] == [30.0, 5.0]
    assert (demand.num_running, demand.num_wanted, demand.lowest, demand.highest) == (2, 2, 1, 8)


def test_a_decision_is_one_log_line_with_its_reason() -> None:
    with capture_logs() as lines:
        number, state = by_waiting_audio(context({"a": busy(50.0)}))
        by_waiting_audio(context({"a": busy(50.0)}, state=state))
    assert number == 2
    (line,) = lines
    assert line["event"] == "autoscaling decision"
    assert (line["log_level"], line["deployment"], line["reason"]) == ("info", "FinalAsr", "load")
    assert (line["replicas_from"], line["replicas_to"], line["running"], line["reporting"]) == (1, 2, 1, 1)
    assert (line["num_up"], line["num_down"], line["num_flaps"]) == (1, 0, 0)


def test_steady_says_nothing() -> None:
    with capture_logs() as lines:
        assert by_waiting_audio(context({"a": busy(10.0)}))[0] == 1
    assert lines == []


def test_the_bound_is_said_once() -> None:
    state: dict[str, Any] = {}
    with capture_logs() as lines:
        for _ in range(3):
            number, state = by_waiting_audio(context({"a": busy(500.0)}, state=state, highest=1))
            assert number == 1
    assert [line["reason"] for line in lines] == ["bounds"]


@pytest.mark.parametrize("senseless", [math.nan, math.inf, -1.0, None, "4", [1]])
def test_senseless_values_are_missing_ones(senseless: Any) -> None:
    reported = busy()
    reported["waiting_audio_s"] = [Point(NOW_S, senseless)]
    assert demand_of(context({"a": reported})).replicas == ()
    reported = busy()
    reported["capacity_audio_s_per_s"] = [Point(NOW_S, senseless)]
    assert demand_of(context({"a": reported})).replicas[0].capacity == 0.0


def test_late_figures_are_missing_ones() -> None:
    late = context({"a": busy(), "b": busy()}, now_s=NOW_S + MAX_AGE_S)
    assert demand_of(late).replicas == ()
    with capture_logs() as lines:
        assert by_waiting_audio(late)[0] == 2
    assert [line["reason"] for line in lines] == ["figures missing"]


def test_what_waits_is_a_mean_of_the_last_seconds() -> None:
    reported = busy()
    reported["waiting_audio_s"] = [
        Point(NOW_S - age, value) for age, value in ((9, 99.0), (2, 6.0), (1, 0.0))
    ]
    assert demand_of(context({"a": reported})).replicas[0].waiting_audio_s == 3.0


def test_a_replica_that_has_not_reported_yet() -> None:
    number, _ = by_waiting_audio(context({"a": busy(10.0), "b": {}}))
    assert number == 2


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_figures_and_no_replicas(nothing: Any) -> None:
    empty = context({}, wanted=1)
    empty._raw_metrics_value = nothing
    assert by_waiting_audio(empty)[0] == 1


def test_constants_come_from_the_config_file() -> None:
    assert WaitingAudioPolicy(up_share=0.2, down_share=0.1)(context({"a": busy(10.0)}))[0] == 2
    with pytest.raises(TypeError):
        WaitingAudioPolicy(no_such_constant=1.0)
    with pytest.raises(ValueError):
        WaitingAudioPolicy(quiet_s=-1.0)


def test_serve_takes_and_carries_both_forms() -> None:
    """Serve pickles the policy with its module by value, and calls what comes out."""
    function = AutoscalingPolicy(policy_function="deployments.autoscaling:by_waiting_audio")
    assert function.get_policy()(context({"a": busy(50.0)}))[0] == 2
    of_class = AutoscalingPolicy(
        policy_function="deployments.autoscaling:WaitingAudioPolicy", policy_kwargs={"quiet_s": 300.0}
    )
    assert of_class.get_policy()(**of_class.policy_kwargs)(context({"a": busy(50.0)}))[0] == 2
