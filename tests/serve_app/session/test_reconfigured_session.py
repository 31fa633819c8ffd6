from dataclasses import replace

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
