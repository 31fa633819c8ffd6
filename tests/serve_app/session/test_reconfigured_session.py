from dataclasses import replace

from serve_app.session.backpressure import InterimBudget, InterimGate, InterimLoad
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session


def test_a_running_session_takes_over_what_it_can_change_and_nothing_else():
    session = Session(SessionOptions("s1", language="en"))
    wanted = SessionOptions(
        "other",
        language="de",
        partials=False,
        partial_interval_ms=900,
        max_partial_window_ms=3_000,
        prompt="Dr. Ohm",
        hotwords="ohm",
        word_timestamps=False,
    )
    session.reconfigure(wanted)
    assert session.options == replace(wanted, session_id="s1", language="en", word_timestamps=True)


def test_interims_give_way_in_steps():
    gate = InterimGate(InterimBudget(num_workers=2), 0.0)
    assert gate.load(0) == InterimLoad("normal", 1.0, 1.0, False)
    assert gate.load(3).paused
    for _ in range(50):
        gate.final_answered(140.0)
    high = gate.load(0)
    assert (high.level, round(high.slowdown), high.window_share < 0.6) == ("high", 2, True)
    for _ in range(50):
        gate.final_answered(1_000.0)
    assert gate.load(0).level == "critical"
    assert round(gate.load(0).slowdown) == 10
