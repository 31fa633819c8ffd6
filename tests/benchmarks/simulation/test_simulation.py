"""The simulated service: time, talk, queues and scaling behave as the real parts that it is made of."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips import Clip, SessionPlan, start_delays_s
from benchmarks.scoring import Percentiles
from benchmarks.simulation.measure import read_costs
from benchmarks.simulation.paired import Compared, Observed, Pair, compare, observe, verdict
from benchmarks.simulation.replicas import Clock, Fleet, Job, ScalingSetup
from benchmarks.simulation.service import ServiceShape, SimulatedRun, simulate
from benchmarks.simulation.sessions import DoorShape
from benchmarks.simulation.talk import Moment, Talk, VoiceMoment, listen, shuffled, utterances
from fakes.speech_server import running_fake_server
from fakes.talk import FakeDetector, Say, speak
from serve_app.capacity.throughput import DecodeCost, DecodeSample
from serve_app.core.jobs import Role

pytestmark = pytest.mark.slow

FAST = DecodeCost(0.01, 0.0, 0.005)
SHAPE = ServiceShape({Role.FINAL: FAST, Role.INTERIM: FAST})


def said(begin_s: float, end_s: float) -> tuple[VoiceMoment, ...]:
    """One utterance without a pause."""
    return (
        VoiceMoment(begin_s + 0.25, Moment.OPENED, begin_s - 0.2, begin_s),
        VoiceMoment(end_s + 0.2, Moment.PAUSED, begin_s - 0.2, end_s + 0.2),
        VoiceMoment(end_s + 0.5, Moment.CLOSED, begin_s - 0.2, end_s + 0.2),
    )


def talking(num_utterances: int, length_s: float = 3.0) -> Talk:
    moments = [
        m
        for n in range(num_utterances)
        for m in said(1 + n * (length_s + 1), 1 + n * (length_s + 1) + length_s)
    ]
    return Talk(tuple(moments), num_utterances * (length_s + 1) + 2)


def run(
    num_sessions: int, shape: ServiceShape = SHAPE, *, num_utterances: int = 10, **more: float
) -> SimulatedRun:
    return simulate(shape, [talking(num_utterances)], start_delays_s(num_sessions, 4.0), **more)  # type: ignore[arg-type]


def slower(shape: ServiceShape, factor: float) -> ServiceShape:
    return replace(shape, costs={role: cost.scaled(factor) for role, cost in shape.costs.items()})


# -- time ----------------------------------------------------------------------------------------


def test_time_goes_forward_and_equal_times_keep_their_order() -> None:
    clock, seen = Clock(), list[tuple[float, str]]()

    def note(name: str) -> None:
        seen.append((clock.now_s, name))
        if name == "a":
            clock.after(0.0, note, "later")

    for when_s, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "never")):
        clock.at(when_s, note, name)
    clock.run(5.0)
    assert seen == [(1.0, "a"), (1.0, "b"), (1.0, "later"), (2.0, "c")]
    assert clock.now_s == 5.0


# -- talk ----------------------------------------------------------------------------------------


def heard(*words: Say) -> Talk:
    (talk,) = listen([speak(list(words))], FakeDetector())
    return talk


def test_recordings_become_the_moments_of_the_services_own_endpointer() -> None:
    talk = heard(Say(1), Say(2, pause_ms=900), Say(3, pause_ms=900))
    kinds = [moment.kind for moment in talk.moments]
    assert kinds.count(Moment.CLOSED) == 2
    assert kinds[0] is Moment.OPENED
    times = [moment.at_s for moment in talk.moments]
    assert times == sorted(times)
    closed = [moment for moment in talk.moments if moment.kind is Moment.CLOSED]
    assert all(moment.start_s < moment.end_s <= moment.at_s for moment in closed)
    assert 0.2 < sum(moment.end_s - moment.start_s for moment in closed) / talk.duration_s < 1


def test_talk_in_a_new_order_keeps_its_utterances() -> None:
    pieces = utterances([talking(3, 2.0), talking(2, 5.0)])
    talk = shuffled(pieces, 120.0, random.Random(1))
    lengths = [m.end_s - m.start_s for m in talk.moments if m.kind is Moment.CLOSED]
    assert {round(length, 3) for length in lengths} <= {2.4, 5.4}
    assert talk.moments[-1].at_s <= 120
    assert [m.at_s for m in talk.moments] == sorted(m.at_s for m in talk.moments)


# -- the service ---------------------------------------------------------------------------------


@pytest.mark.parametrize("num_sessions", [1, 7, 60])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_every_utterance_gets_its_final(num_sessions: int, on_gpu: bool) -> None:
    simulated_run = run(num_sessions, replace(SHAPE, on_gpu=on_gpu))
    assert len(simulated_run.results.final_ms) == 10 * num_sessions
    assert len(simulated_run.results.speech_start_ms) == 10 * num_sessions
    assert simulated_run.results.num_refused == 0
    assert min(simulated_run.results.final_ms) >= 0
    assert min(simulated_run.results.interim_ms) >= 0


def test_the_same_seed_gives_the_same_run() -> None:
    first, again = run(10, seed=3), run(10, seed=3)
    assert first.results.final_ms == again.results.final_ms
    assert first.results.interim_ms == again.results.interim_ms


def test_unloaded_finals_are_there_when_their_silence_ends() -> None:
    """What is left is the tick, the voice call and the way; the decode hid in the silence."""
    results = run(1).results
    assert results.num_speculative == 10
    door = SHAPE.door
    longest_ms = 1000 * (
        SHAPE.conductor().tick_s + 2 * (door.voice_fixed_s + door.voice_per_session_s) + door.door_s
    )
    assert max(results.final_ms) <= longest_ms


def test_without_speculation_a_final_takes_its_decode_too() -> None:
    settings = SHAPE.settings.model_copy(update={"speculative_finals": False})
    slow = replace(slower(SHAPE, 5.0), settings=settings)
    results = run(1, slow).results
    decode_ms = 1000 * slow.costs[Role.FINAL].mean_s([3.4])
    assert results.num_speculative == 0
    assert min(results.final_ms) >= decode_ms


def test_more_load_is_later_and_interims_give_way_first() -> None:
    slow = slower(SHAPE, 5.0)
    few, many = run(4, slow), run(48, slow)
    assert Percentiles.of(many.results.final_ms).p95 > Percentiles.of(few.results.final_ms).p95  # type: ignore[operator]
    assert len(many.results.interim_ms) / 48 < 0.7 * len(few.results.interim_ms) / 4


def test_too_much_load_is_refused_by_a_bounded_queue_and_not_hidden() -> None:
    simulated_run = run(400, slower(SHAPE, 100.0), num_utterances=20, until_s=200.0)
    assert simulated_run.results.num_refused > 0


def test_jobs_of_one_call_stay_together_and_all_are_answered() -> None:
    clock, dice = Clock(), random.Random(0)
    shape = SHAPE.recogniser((Role.FINAL, Role.INTERIM))
    fleet = Fleet(clock, shape, dice, ScalingSetup(lowest=3, highest=3))
    answered: list[float] = []
    jobs = [Job(Role.FINAL, 2.0, lambda job: None) for _ in range(4)]
    fleet.call(jobs, lambda job: answered.append(clock.now_s))
    clock.run(10.0)
    assert len(answered) == 4
    # Two workers on one replica: the second pair waits for the first.
    assert answered[2] - answered[0] == pytest.approx(FAST.mean_s([2.0]))


# -- scaling -------------------------------------------------------------------------------------


def ramped(num_sessions: int = 120) -> SimulatedRun:
    shape = replace(slower(SHAPE, 6.0), scaling=ScalingSetup(1, 12, startup_s=15.0))
    return simulate(shape, [talking(60)], start_delays_s(num_sessions, 120.0), until_s=2_400.0)


def test_a_ramp_is_followed_up_and_down_without_flapping() -> None:
    simulated_run = ramped()
    numbers = [event.replicas_to for event in simulated_run.final_events]
    peak = numbers.index(max(numbers))
    assert max(numbers) >= 3
    assert numbers[: peak + 1] == sorted(numbers[: peak + 1])
    assert numbers[peak:] == sorted(numbers[peak:], reverse=True)
    assert numbers[-1] == 1
    assert simulated_run.num_flaps == 0
    assert simulated_run.snapshots[-1].final == 1


def test_the_decision_comes_before_the_latency() -> None:
    simulated_run = ramped()
    late = [s.at_s for s in simulated_run.snapshots if s.final_p95_ms is not None and s.final_p95_ms > 900]
    assert simulated_run.final_events[0].at_s < min(late, default=float("inf"))


def test_the_outcome_is_json() -> None:
    fields = json.loads(json.dumps(ramped(20).to_json()))
    assert fields["final_latency_ms"]["count"] == fields["finals"] == 20 * 60
    assert fields["replicas_over_time"][0]["final"] == 1


# -- costs and pairs -----------------------------------------------------------------------------


def test_costs_go_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    costs = {Role.FINAL: DecodeCost(0.1, 0.2, 0.3, (0.5, 1.5)), Role.INTERIM: FAST}
    path.write_text(json.dumps({role: asdict(cost) for role, cost in costs.items()}))
    assert read_costs(path) == costs


@pytest.mark.parametrize(
    "content", ["", "{}", '{"final": {}, "interim": {"fixed_s": "x"}}', '{"final": {"fixed_s": -1}}']
)
def test_files_that_hold_no_costs(tmp_path: Path, content: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"costs\.json"):
        read_costs(path)


async def test_real_sessions_are_observed() -> None:
    plan = SessionPlan((Clip("a", np.zeros(3_200, np.int16), "hello"),))
    with running_fake_server() as url:
        seen = await observe(url, [plan] * 2, [Talk((), 1.2)] * 2, ramp_s=0.1, longest_interim_ms=8_000)
    assert seen.failures == []
    assert (len(seen.final_ms), len(seen.interim_ms)) == (2, 24)
    assert all(0 <= late_ms < 1_000 for late_ms in seen.interim_ms)


def test_a_simulation_of_a_simulation_agrees_with_it() -> None:
    """Observations that are themselves simulated, with a way in and out that the pair has to find."""
    talks = [talking(12, length_s) for length_s in (2.0, 3.0, 4.0, 6.0, 7.0, 9.0)]
    jittered = replace(
        slower(SHAPE, 6.0), door=DoorShape(door_s=0.0, jitter_s=tuple(np.linspace(0.0, 0.06, 25).tolist()))
    )
    real = simulate(jittered, talks, [0.005 + begin_s for begin_s in start_delays_s(6, 4.0)], seed=99).results
    dice = random.Random(5)
    lengths_s = [dice.uniform(0.5, 9.0) for _ in range(100)]
    samples = [DecodeSample((s,), jittered.costs[Role.FINAL].mean_s([s])) for s in lengths_s]
    seen = Observed(
        final_ms=list(real.final_ms),
        interim_ms=list(real.interim_ms),
        speech_start_ms=list(real.speech_start_ms),
        rpc_ms=[3.0] * 50,
        finals=samples,
        interims=samples,
        finals_at_s=[float(n) for n in range(100)],
        interims_at_s=[float(n) for n in range(100)],
    )
    pair = compare(seen, talks, replace(SHAPE, costs={}), ramp_s=4.0)
    assert pair.final.ratio == pytest.approx(1.0, abs=0.15)
    assert pair.interim.ratio == pytest.approx(1.0, abs=0.15)


def test_the_verdict_is_the_median_of_the_pairs() -> None:
    def pair(simulated: float) -> Pair:
        some, other = Percentiles(1.0, 100.0, 200.0, 9), Percentiles(1.0, simulated, 200.0, 9)
        return Pair(Compared(some, other), Compared(some, some))

    good = verdict([pair(90.0), pair(300.0), pair(120.0)])
    assert (good["final_p95_ratio"], good["interim_p95_ratio"], good["within_bar"]) == (1.2, 1.0, True)
    assert not verdict([pair(60.0)])["within_bar"]
    nothing = Percentiles(None, None, None, 0)
    assert verdict([Pair(Compared(nothing, nothing), Compared(nothing, nothing))])["final_p95_ratio"] is None
